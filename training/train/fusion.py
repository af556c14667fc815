"""Fusion weights of the score, searched on early-stop rows."""

# Shape suffixes: R rows.

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.arrays import F32, I64
from models.fusion import fuse
from models.metrics import CUTS, ds_at_k, neg_at_k, nwtg_at_k
from training.data import Interactions
from training.evaluation.evaluate import compute_metrics
from training.evaluation.predict import Predictions, run_torch
from training.rankers import INTEREST, WATCH_TIME, Ranker, outcomes_with
from training.train.run_config import RunConfig

GRID: Final = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Sizes of a weight that are tried, beside a `watch_time` of 1."""
NEGATIVE_GRID: Final = (0.1, 0.25, 0.5, 1.0)
"""The same of objectives that count against a candidate: never 0. A log of likes and seconds does not show
that users who are shown what they skip leave."""
PASSES: Final = 2
LEAST_GAIN: Final = 0.002
"""A weight is moved for a gain of the mean ratio of at least this: less is the luck of a few dozen users."""


def choose_weights(ranker: Ranker, log: Interactions, rows: I64, config: RunConfig) -> dict[str, float]:
    """Return the weights that order early-stop rows best.

    Of watch time and interest those with the highest NWTG@10 + NEG@10 of `config.fusion_grid`; of many
    objectives those of `search_fusion_weights`.
    """
    out = run_torch(ranker, log, rows, config.loop.sequence_length, history_at="request")
    if config.objectives is not None:
        return search_fusion_weights(log, rows, out.objectives)

    def value(weights: dict[str, float]) -> float:
        metrics = compute_metrics(log, rows, Predictions(out, out), weights)  # of the order alone
        return sum(metrics[name] or 0.0 for name in ("nwtg@10", "neg@10"))

    return max(({WATCH_TIME: 1.0, INTEREST: interest} for interest in config.fusion_grid), key=value)


def search_fusion_weights(log: Interactions, rows: I64, objectives: Mapping[str, F32]) -> dict[str, float]:
    """Search the weight of every objective on rows that the ranker was not fitted on.

        gain(ω) = mean over NWTG, NEG, DS and k of  metric@k(ω) / metric@k(watch time alone)

    One weight after the other takes the value of its grid with the largest gain, `PASSES` times over all;
    a value under which NWTG or NEG falls below that of watch time alone is not taken (a spread of durations
    alone is cheap: a worse order has more of it).

    Searched on half of the users of KuaiRand-Pure's early-stop day, weights gain on the other half, too: NWTG
    1.6 %, DS 4 %, NEG a third of what watch time alone has (twelve halves). With a required gain of one or
    two standard errors over users, gains were smaller there: few moves are left.

    Args:
        log: every exposure.
        rows: `[R]` early-stop rows.
        objectives: by name `[R]` in [0, 1], `watch_time` among them, with the history of the request (see
            `HistoryAt`): with that of the row, explicit feedback seems to predict its contrary.

    Returns:
        A weight for each objective: `watch_time` 1, positive ones 0 or more, negative ones below 0.
    """
    negative = {o.name for o in outcomes_with(log.signals) if o.side == "negative"} & set(objectives)
    weights = {name: -NEGATIVE_GRID[0] if name in negative else 0.0 for name in objectives}
    weights[WATCH_TIME] = 1.0
    reference = _metrics(log, rows, objectives, {WATCH_TIME: 1.0})
    best = _gain(_metrics(log, rows, objectives, weights), reference)
    order = sorted(weights, key=lambda name: (name != INTEREST, name in negative))
    for _ in range(PASSES):
        for name in order:
            if name == WATCH_TIME:
                continue
            for size in NEGATIVE_GRID if name in negative else GRID:
                tried = weights | {name: -size if name in negative else size}
                if tried == weights:
                    continue
                gain = _gain(_metrics(log, rows, objectives, tried), reference)
                if gain is not None and (best is None or gain > best + LEAST_GAIN):
                    best, weights = gain, tried
    return weights


def _metrics(
    log: Interactions, rows: I64, objectives: Mapping[str, F32], weights: Mapping[str, float]
) -> dict[str, float | None]:
    score, _ = fuse(objectives, weights)
    user = log.user[rows]
    out: dict[str, float | None] = {}
    for k in CUTS:
        out[f"nwtg@{k}"] = nwtg_at_k(user, score, log.watch_time_s[rows], k).weighted_mean
        engaged = neg_at_k(user, score, log.explicit[rows], k).without_degenerate()
        out[f"neg@{k}"] = engaged.weighted_mean
        out[f"ds@{k}"] = ds_at_k(user, score, log.duration_s[rows], k).weighted_mean
    return out


def _gain(metrics: Mapping[str, float | None], reference: Mapping[str, float | None]) -> float | None:
    """`None` where NWTG or NEG is below the reference, on the mean over k."""
    ratios: dict[str, list[float]] = {}
    for name, value in metrics.items():
        base = reference[name]
        if value is not None and base:
            ratios.setdefault(name.partition("@")[0], []).append(value / base)
    means = {name: float(np.mean(values)) for name, values in ratios.items()}
    if not means or any(means.get(name, 1.0) < 1.0 for name in ("nwtg", "neg")):
        return None
    return float(np.mean(list(means.values())))
