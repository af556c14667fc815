"""Which differences of a report are significant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Json = Mapping[str, Any]
"""A part of a report as it was read from its file."""

SIGNIFICANT: Final = 0.05
"""The p value below which a difference is marked."""


def p_value(paired: Json) -> float:
    """Return p, corrected for the number of comparisons where the experiment has computed that."""
    return float(paired.get("p_adjusted", paired["p_value"]))
