"""Endpoints in the vocabulary of other systems, so that their clients work unchanged."""
