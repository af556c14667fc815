"""Intervals that hold at every look: an experiment may be read each day and stopped at any."""

from __future__ import annotations

import math


def always_valid_half_width(standard_error: float, mixing_deviation: float, alpha: float = 0.05) -> float:
    """Return half the width of the confidence sequence by a normal mixture.

        h = s √(2 (1 + 1/ρ) (ln(1/α) + ½ ln(1 + ρ)))        ρ = τ² / s²

    This is the interval of the mixture sequential probability ratio test, and with an estimated standard
    error it is the asymptotic confidence sequence: the two are one boundary. The probability that it misses
    the truth at any look is at most α, since the mixture of likelihood ratios is a martingale.

    Args:
        standard_error: s of the difference at this look.
        mixing_deviation: τ, the spread of the differences one expects, fixed before the first look. The
            sequence is narrowest where s is somewhat smaller than τ; it holds whatever τ is.
        alpha: probability of missing the truth at any look.

    Source: Johari, Koomen, Pekelis & Walsh, KDD 2017; Waudby-Smith et al., "Time-uniform central limit theory
    and asymptotic confidence sequences", 2021; Robbins, 1970.
    """
    if standard_error == 0 or mixing_deviation == 0:
        return math.inf if standard_error > 0 else 0.0
    rho = (mixing_deviation / standard_error) ** 2
    return standard_error * math.sqrt(2 * (1 + 1 / rho) * (math.log(1 / alpha) + 0.5 * math.log1p(rho)))
