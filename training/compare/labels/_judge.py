"""What a recommender's scores are worth on the test window, user by user."""

# Shape suffixes: N rows of the log, R rows of the window, U users with more than k of them, K places.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from models.features import SEQUENCE_ID_COLUMNS
from models.metrics import ds_at_k, first_k, neg_at_k, nwtg_at_k
from training.compare._report import Measure
from training.data import Interactions
from training.labelcraft import OBJECTIVES, Candidates
from training.labels import Scale

BINS_S: Final = (*range(0, 601, 50),)
"""Edges of the histogram of recommended durations; the last bin has no end. As in the paper's figure."""

Values = Mapping[str, F64]
"""Per figure, one value for each judged user `[U]`."""


class Window:
    """The rows that methods are judged on, and the figures of a score on them.

    `nwtg@k`, `neg@k`, `ds@k` are those of `models.metrics.report`, with its suffixes. Besides:

        usage_time@k, engagement@k, duration_spread@k    M1, M2, M3 on hard slates: α = 1 on the first k rows
        composite@k                                      their sum
        recommended_duration_s@k                         mean duration of the first k rows, seconds

    each with every user counted once, as the objectives are defined.

    Args:
        log: the log.
        rows: `[R]` rows of the window.
        cuts: the k. Those with nobody who has more than k rows are left out.
        train: rows that scale(w) and scale(d) of the objectives are fitted on.

    Raises:
        BadInput: no k is left.
    """

    def __init__(self, log: Interactions, rows: I64, cuts: Sequence[int], train: I64) -> None:
        self.rows = rows
        self.user, self.feedback = log.user[rows], log.feedback[rows]
        self.watched, self.duration = log.watch_time_s[rows], log.duration_s[rows]
        self.explicit = log.explicit[rows]
        self.author = log.ids[rows, SEQUENCE_ID_COLUMNS.index("author_id")]
        self.scales = _scales(log, train)
        counts = np.unique(self.user, return_counts=True)[1]
        self.cuts = tuple(k for k in cuts if (counts > k).any())
        self.left_out = tuple(k for k in cuts if k not in self.cuts)
        if not self.cuts:
            raise BadInput(
                f"no user has more than {min(cuts)} of the {len(rows)} exposures in the test window (at most "
                f"{counts.max(initial=0)}), so no list can be judged; use more --test-days or a smaller --k."
            )
        self.measures = self._measures()

    def values(self, score_R: F32 | F64) -> dict[str, F64]:
        """Every per-user value of the lists that these scores make."""
        out: dict[str, F64] = {}
        for k in self.cuts:
            out[f"nwtg@{k}"] = nwtg_at_k(self.user, score_R, self.watched, k).values
            out[f"neg@{k}"] = neg_at_k(self.user, score_R, self.explicit, k).values
            out[f"ds@{k}"] = ds_at_k(self.user, score_R, self.duration, k).values
            _, rows_UK = first_k(self.user, score_R, k)
            out[f"recommended_duration_s@{k}"] = self.duration[rows_UK].mean(axis=1, dtype=np.float64)
            out |= {f"{name}@{k}": value for name, value in self._objectives(rows_UK).items()}
        return out

    def figures(self, values: Values) -> dict[str, float | None]:
        """Every figure of per-user values; `None` where no user has any weight."""
        out: dict[str, float | None] = {}
        for name, (of, weight_U) in self.measures.items():
            if of in values:
                whole = weight_U.sum() > 0
                out[name] = float(np.average(values[of], weights=weight_U)) if whole else None
        return out

    def histogram(self, score_R: F32 | F64) -> list[int]:
        """Durations of the first k rows, largest k, in the bins of `BINS_S`."""
        _, rows_UK = first_k(self.user, score_R, self.cuts[-1])
        return _counts(self.duration[rows_UK])

    def exposed(self) -> list[int]:
        """The same for all rows of the same users: what there was to choose from."""
        long = np.isin(self.user, self.users(self.cuts[-1]))
        return _counts(self.duration[long])

    def users(self, k: int) -> I64:
        """`[U]` users with more than k rows, in the order of the values."""
        ids, _ = first_k(self.user, np.zeros(len(self.user)), k)
        return ids

    def _measures(self) -> dict[str, Measure]:
        nothing = np.zeros(len(self.user))
        out = {}
        for k in self.cuts:
            found = neg_at_k(self.user, nothing, self.explicit, k)
            rows_U, once_U = found.rows.astype(np.float64), np.ones(len(found.rows))
            for name in (f"nwtg@{k}", f"neg@{k}", f"ds@{k}"):
                out[name] = Measure(name, rows_U)
                out[f"{name}_plain"] = Measure(name, once_U)
            out[f"neg@{k}_positive_users"] = Measure(f"neg@{k}", rows_U * ~found.degenerate)
            for name in ("composite", *OBJECTIVES, "recommended_duration_s"):
                out[f"{name}@{k}"] = Measure(f"{name}@{k}", once_U)
        return out

    def _objectives(self, rows_UK: I64) -> dict[str, F64]:
        if self.scales is None:
            return {}
        watch, duration = self.scales
        share_UK = torch.full(rows_UK.shape, 1.0 / rows_UK.shape[1])
        of = Candidates(
            watch_time=watch(torch.from_numpy(self.watched[rows_UK])),
            duration=duration(torch.from_numpy(self.duration[rows_UK])),
            explicit=torch.from_numpy(self.explicit[rows_UK]),
            author=torch.from_numpy(self.author[rows_UK]),
            feedback=torch.from_numpy(self.feedback[rows_UK]),
            mask=torch.ones(rows_UK.shape, dtype=torch.bool),
        )
        found = {name: m(share_UK, of).numpy().astype(np.float64) for name, m in OBJECTIVES.items()}
        return {**found, "composite": np.sum(list(found.values()), axis=0)}


def rank_correlation(a_N: F32 | F64, b_N: F32 | F64) -> float | None:
    """Spearman's ρ: the correlation of ranks, ties sharing their mean rank. `None` where one is constant."""
    ranks = []
    for column in (a_N, b_N):
        _, index, count = np.unique(column, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[index])
    if min((float(np.std(r)) for r in ranks if len(r)), default=0.0) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _scales(log: Interactions, train: I64) -> tuple[Scale, Scale] | None:
    """scale(w) and scale(d), or `None` for a log whose watch times cannot be scaled: it has no objectives."""
    learned_on = log.take(train)
    try:
        watch = Scale(name="watch time").fit(learned_on.watch_time_s)
        return watch, Scale(name="duration").fit(learned_on.duration_s)
    except BadInput:
        return None


def _counts(duration: F32) -> list[int]:
    counts: list[int] = np.histogram(duration, bins=[*BINS_S, np.inf])[0].tolist()
    return counts
