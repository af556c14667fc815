"""Whether a log can answer for a policy at all: effective sample size, largest weight, support."""

# Shape suffixes: N logged slates, K positions, M candidates.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.arrays import F64

LEAST_EFFECTIVE_SAMPLE: Final = 100.0
LEAST_SUPPORT: Final = 0.8


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of a target policy the log has seen."""

    effective_sample_size: float
    """(Σw)² / Σw² of the position where it is lowest: slates that the weighted ones are worth."""
    max_weight: float
    support: float
    """Share of the target policy's probability on videos that the log has shown, 0 to 1."""

    @classmethod
    def of_weights(cls, weight_NK: F64, support: float) -> Overlap:
        """Summarise the weights of a log."""
        square_K = np.square(weight_NK).sum(axis=0)
        total_K = weight_NK.sum(axis=0)
        effective_K = np.divide(total_K**2, square_K, out=np.zeros_like(total_K), where=square_K > 0)
        return cls(float(effective_K.min()), float(weight_NK.max()), support)

    @property
    def refusal(self) -> str | None:
        """Why the log cannot answer and what would help, or nothing."""
        if self.support < LEAST_SUPPORT:
            return (
                f"the log is likely to hold only {self.support:.0%} of what the policy would show, at least "
                f"{LEAST_SUPPORT:.0%} is needed; log again with more exploration."
            )
        if self.effective_sample_size < LEAST_EFFECTIVE_SAMPLE:
            return (
                f"the effective sample size is {self.effective_sample_size:.0f}, at least "
                f"{LEAST_EFFECTIVE_SAMPLE:.0f} is needed (largest weight {self.max_weight:.3g}); collect a "
                "longer log, explore more, or estimate a policy closer to the logged one."
            )
        return None


def support(target_NKM: F64, logging_NKM: F64, floor: float | None = None) -> float:
    """Return the share of the target policy's probability on videos that the log is likely to hold.

    Args:
        target_NKM, logging_NKM: marginal propensities.
        floor: logging propensities below it count as 0; by default 1 / N, less than one slate of the log.
    """
    floor = 1 / len(target_NKM) if floor is None else floor
    return float(target_NKM[logging_NKM >= floor].sum() / target_NKM.sum())
