"""Slates of a score on the test window: figures user by user, and what fixed mixtures of two scores reach."""

# Shape suffixes: N rows, R test rows, U users with more than k of them, K positions of a slate.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from models.features import SEQUENCE_ID_COLUMNS
from models.metrics import ds_at_k, first_k, neg_at_k, nwtg_at_k
from training.data import Interactions
from training.evaluation.bootstrap import Measure
from training.labelcraft import OBJECTIVES, Candidates
from training.labels import Scale

BINS_S: Final = (*range(0, 601, 50),)
"""Edges of the histogram of recommended durations, as in the paper's figure; the last bin has no end."""
SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Share a of the second score in the mixtures that are reported."""


class SlateEvaluator:
    """Figures of scores on the test window, where each user's rows are the candidates of a slate.

    `nwtg@k`, `neg@k`, `ds@k` are those of `models.metrics.report`, with its suffixes. Besides, with every
    user counted once:

        usage_time@k, engagement@k, duration_spread@k    M1, M2, M3 on hard slates: α = 1 on the first k rows
        composite@k                                      their sum
        recommended_duration_s@k                         mean duration of the first k rows, s

    Args:
        log: the exposures.
        rows: `[R]` those of the test window.
        cuts: the k, ascending. Those that no user has more rows than are left out.
        train: rows that scale(w) and scale(d) of the objectives are fitted on.

    Raises:
        BadInput: no k is left.
    """

    def __init__(self, log: Interactions, rows: I64, cuts: Sequence[int], train: I64) -> None:
        self.user, self.feedback = log.user[rows], log.feedback[rows]
        self.watched, self.duration = log.watch_time_s[rows], log.duration_s[rows]
        self.explicit = log.explicit[rows]
        self.author = log.ids[rows, SEQUENCE_ID_COLUMNS.index("author_id")]
        self.scales = _scales(log.take(train))
        counts = np.unique(self.user, return_counts=True)[1]
        self.cuts = tuple(k for k in cuts if (counts > k).any())
        self.unsupported = tuple(k for k in cuts if k not in self.cuts)
        if not self.cuts:
            raise BadInput(
                f"no user has more than {min(cuts)} of the {len(rows)} exposures in the test window (at most "
                f"{counts.max(initial=0)}), so no slate can be evaluated; use more --test-days or a "
                "smaller --k."
            )

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """How users' values make figures."""
        measures = {}
        for k in self.cuts:
            feedback = neg_at_k(self.user, np.zeros(len(self.user)), self.explicit, k)
            rows_U, once_U = feedback.rows.astype(np.float64), np.ones(len(feedback.rows))
            for name in (f"nwtg@{k}", f"neg@{k}", f"ds@{k}"):
                measures[name] = Measure(name, rows_U)
                measures[f"{name}_plain"] = Measure(name, once_U)
            measures[f"neg@{k}_positive_users"] = Measure(f"neg@{k}", rows_U * ~feedback.degenerate)
            for name in ("composite", *OBJECTIVES, "recommended_duration_s"):
                measures[f"{name}@{k}"] = Measure(f"{name}@{k}", once_U)
        return measures

    def values(self, score_R: F32 | F64) -> dict[str, F64]:
        """Return `[U]` the values of the slates that a score makes, by figure."""
        values: dict[str, F64] = {}
        for k in self.cuts:
            values[f"nwtg@{k}"] = nwtg_at_k(self.user, score_R, self.watched, k).values
            values[f"neg@{k}"] = neg_at_k(self.user, score_R, self.explicit, k).values
            values[f"ds@{k}"] = ds_at_k(self.user, score_R, self.duration, k).values
            _, rows_UK = first_k(self.user, score_R, k)
            values[f"recommended_duration_s@{k}"] = self.duration[rows_UK].mean(axis=1, dtype=np.float64)
            values |= {f"{name}@{k}": value for name, value in self._objectives(rows_UK).items()}
        return values

    def figures(self, values: Mapping[str, F64]) -> dict[str, float | None]:
        """Return every figure of users' values; `None` where no user has any weight."""
        return {
            name: float(np.average(values[by_user], weights=weight_U)) if weight_U.sum() > 0 else None
            for name, (by_user, weight_U) in self.measures.items()
            if by_user in values
        }

    def histogram(self, score_R: F32 | F64) -> list[int]:
        """Return the durations of the first k rows, of the largest k, in the bins of `BINS_S`."""
        return _count(self.duration[first_k(self.user, score_R, self.cuts[-1])[1]])

    def exposed_histogram(self) -> list[int]:
        """Return the durations of all rows of these users: what there was to choose from."""
        return _count(self.duration[np.isin(self.user, self.users(self.cuts[-1]))])

    def users(self, k: int) -> I64:
        """Return `[U]` the users with more than k rows, in the order of the values."""
        return first_k(self.user, np.zeros(len(self.user)), k)[0]

    def _objectives(self, rows_UK: I64) -> dict[str, F64]:
        if self.scales is None:
            return {}
        watch_time, duration = self.scales
        slate_weight_UK = torch.full(rows_UK.shape, 1.0 / rows_UK.shape[1])
        candidates = Candidates(
            watch_time=watch_time(torch.from_numpy(self.watched[rows_UK])),
            duration=duration(torch.from_numpy(self.duration[rows_UK])),
            explicit=torch.from_numpy(self.explicit[rows_UK]),
            author=torch.from_numpy(self.author[rows_UK]),
            feedback=torch.from_numpy(self.feedback[rows_UK]),
            mask=torch.ones(rows_UK.shape, dtype=torch.bool),
        )
        values = {
            name: objective(slate_weight_UK, candidates).numpy().astype(np.float64)
            for name, objective in OBJECTIVES.items()
        }
        return {**values, "composite": np.sum(list(values.values()), axis=0)}


def _scales(train: Interactions) -> tuple[Scale, Scale] | None:
    """Return scale(w) and scale(d), or `None` where watch times cannot be scaled: there are no objectives."""
    try:
        watch_time = Scale(name="watch time").fit(train.watch_time_s)
        return watch_time, Scale(name="duration").fit(train.duration_s)
    except BadInput:
        return None


def _count(duration: F32) -> list[int]:
    counts: list[int] = np.histogram(duration, bins=[*BINS_S, np.inf])[0].tolist()
    return counts


def rank_correlation(first_N: F32 | F64, second_N: F32 | F64) -> float | None:
    """Return Spearman's ρ, ties sharing their mean rank; `None` where a column is constant."""
    ranks = []
    for column in (first_N, second_N):
        _, index, count = np.unique(column, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[index])
    if min((float(np.std(rank)) for rank in ranks if len(rank)), default=0.0) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def rank_percentiles(user_R: I64, score_R: F32 | F64) -> F64:
    """Return `[R]` each row's rank among its user's, from 0 (last) to 1 (first); a single row has 1.

    Equal scores keep the order of the rows, as in the metrics.
    """
    order = np.lexsort((-score_R.astype(np.float64), user_R))
    _, first, count = np.unique(user_R[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    percentile = np.empty(len(order))
    percentile[order] = 1.0 - rank / np.repeat(np.maximum(count - 1, 1), count)
    return percentile


def interpolate_rankings(
    evaluator: SlateEvaluator, first_R: F32, second_R: F32
) -> list[dict[str, float | None]]:
    """Return the figures of (1 - a) rank_1 + a rank_2 for each a of `SHARES`: no label is learned for these.

    Args:
        evaluator: of the test window.
        first_R, second_R: the scores whose rank percentiles are mixed.
    """
    first, second = (rank_percentiles(evaluator.user, score_R) for score_R in (first_R, second_R))
    return [evaluator.figures(evaluator.values((1 - a) * first + a * second)) for a in SHARES]


def margin_over_frontier(
    x: float, y: float, frontier_x: Sequence[float], frontier_y: Sequence[float]
) -> float:
    """Return how far a point is beyond a frontier, in the smaller of its two leads; negative if behind.

    The frontier is the line through its points, for between two mixtures there are finer ones.

        min over the frontier of max(x - x_f, y - y_f)

    Args:
        x, y: the point; more is better in both.
        frontier_x, frontier_y: points of the frontier in order.
    """
    index = np.arange(len(frontier_x))
    along = np.linspace(0, len(frontier_x) - 1, 20 * len(frontier_x))
    lead_x = x - np.interp(along, index, frontier_x)
    lead_y = y - np.interp(along, index, frontier_y)
    return float(np.maximum(lead_x, lead_y).min())
