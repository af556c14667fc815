"""Expectations that a bundle must meet before it may answer. Neither torch nor Polars is imported."""

from training.gate._behaviours import AGO_S, GLANCE_S, REQUESTS, count_behaviours
from training.gate._expectations import Expectation, check_requirements, table
from training.gate._requirements import DEFAULT, Requirements

__all__ = [
    "AGO_S",
    "DEFAULT",
    "GLANCE_S",
    "REQUESTS",
    "Expectation",
    "Requirements",
    "check_requirements",
    "count_behaviours",
    "table",
]
