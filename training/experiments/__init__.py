"""Experiments: many methods fitted on one log, their figures as JSON, and reports rendered from that JSON."""
