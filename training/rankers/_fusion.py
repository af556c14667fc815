"""Default fusion weights: what the platform's three objectives gain by, on the early-stop rows."""

# Shape suffixes: R rows.

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.arrays import F32, I64
from models.fusion import fuse
from models.metrics import CUTS, ds_at_k, neg_at_k, nwtg_at_k
from training.data import Interactions
from training.rankers._multi_objective import INTEREST, WATCH_TIME
from training.rankers._outcomes import OUTCOMES

GRID: Final = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Sizes of a weight that are tried, beside a `watch_time` of 1."""
AGAINST: Final = (0.1, 0.25, 0.5, 1.0)
"""Of objectives that count against a candidate: never 0. What a log of likes and seconds cannot show is that
people who are shown what they skip leave."""
PASSES: Final = 2
LEAST_GAIN: Final = 0.002
"""A weight is moved for a gain of the mean ratio of at least this: less is the luck of a few dozen users."""


def choose_fusion(log: Interactions, rows: I64, values: Mapping[str, F32]) -> dict[str, float]:
    """Search the weights of every objective on rows that the ranker was not fitted on.

        gain(ω) = mean over NWTG, NEG, DS and k of  figure@k(ω) / figure@k(watch time alone)

    One weight after the other takes the value of its grid with the largest gain, `PASSES` times over all;
    a value under which NWTG or NEG falls below that of watch time alone is not taken (a spread of durations
    alone is cheap: any order of less sense has more of it).

    Searched on half of the users of KuaiRand-Pure's early-stop day, weights gain on the other half, too: NWTG
    1.6 %, DS 4 %, NEG a third of what watch time alone has (twelve halves). Asked to exceed one or two
    standard errors over users, gains were less there: few moves are left.

    Args:
        log: every exposure.
        rows: `[R]` early-stop rows.
        values: by objective `[R]` in [0, 1], `watch_time` among them, a user's rows as candidates of one
            request (see `batches_for`): row by row, explicit feedback seems to predict its contrary.

    Returns:
        A weight for each objective: `watch_time` 1, positive ones 0 or more, negative ones below 0.
    """
    against = {outcome.name for outcome in OUTCOMES if outcome.side == "negative"} & set(values)
    weights = {name: -AGAINST[0] if name in against else 0.0 for name in values}
    weights[WATCH_TIME] = 1.0
    alone = _figures(log, rows, values, {WATCH_TIME: 1.0})
    best = _gain(_figures(log, rows, values, weights), alone)
    order = sorted(weights, key=lambda name: (name != INTEREST, name in against))
    for _ in range(PASSES):
        for name in order:
            if name == WATCH_TIME:
                continue
            for size in AGAINST if name in against else GRID:
                tried = weights | {name: -size if name in against else size}
                if tried == weights:
                    continue
                found = _gain(_figures(log, rows, values, tried), alone)
                if found is not None and (best is None or found > best + LEAST_GAIN):
                    best, weights = found, tried
    return weights


def _figures(
    log: Interactions, rows: I64, values: Mapping[str, F32], weights: Mapping[str, float]
) -> dict[str, float | None]:
    score, _ = fuse(values, weights)
    user = log.user[rows]
    found: dict[str, float | None] = {}
    for k in CUTS:
        found[f"nwtg@{k}"] = nwtg_at_k(user, score, log.watch_time_s[rows], k).weighted_mean
        engaged = neg_at_k(user, score, log.explicit[rows], k).without_degenerate()
        found[f"neg@{k}"] = engaged.weighted_mean
        found[f"ds@{k}"] = ds_at_k(user, score, log.duration_s[rows], k).weighted_mean
    return found


def _gain(found: Mapping[str, float | None], alone: Mapping[str, float | None]) -> float | None:
    """`None` where NWTG or NEG is below that of watch time alone, on the mean over k."""
    ratios: dict[str, list[float]] = {}
    for name, value in found.items():
        reference = alone[name]
        if value is not None and reference:
            ratios.setdefault(name.partition("@")[0], []).append(value / reference)
    means = {figure: float(np.mean(of)) for figure, of in ratios.items()}
    if not means or any(means.get(figure, 1.0) < 1.0 for figure in ("nwtg", "neg")):
        return None
    return float(np.mean(list(means.values())))
