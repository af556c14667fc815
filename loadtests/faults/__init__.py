"""Fault drills: what is answered while something breaks, and what is there afterwards."""
