"""How videos, authors and tags have performed: tables frozen on train, and their causal form for training.

A row of the training log must not see its own outcome, nor a later one. So while fitting, each row reads
the running statistics of its video as they stood before it; in the graph the same columns come from the
table as it stood at the end of the training rows.

Tables that were carried on up to each exposure would help no more: boosted trees with them order the
early-stop day of KuaiRand-Pure as well as with frozen ones. Nor do other causal columns, tried beside what
`plain_features` holds: means of the user's outcomes above those of the videos, means that forget or that
weigh videos of the candidate's length, hour and weekday. All together gain next to nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32, F64, I64
from training.data import Interactions
from training.encoders._standardised import Standardised

KEYS = 3
"""Statistics are kept by video, by author and by tag: the columns of `candidate_ids`."""
COLUMNS = ("log_exposures", "long_view", "skip", "log_watch_time", "watch_ratio")
SHRINKAGE = 10.0
"""Exposures' worth of the overall mean that every entry starts from."""


def outcomes(watch_time_s: F32, duration_s: F32) -> F32:
    """Return `[N, 4]`: long view, skip, log(1 + watch time), watch ratio clipped at 3, by KuaiRand's rules.

    long view: w ≥ d up to 18 s, w ≥ 18 s above; skip: w < min(3 s, d).
    """
    w, d = watch_time_s, duration_s
    columns = (w >= np.minimum(d, 18.0), w < np.minimum(d, 3.0), np.log1p(w), np.minimum(w / d, 3.0))
    return np.stack(columns, axis=1).astype(np.float32)


class VideoStatistics(nn.Module):
    """Shrunk means of `outcomes` by video, author and tag.

        mean_k = (Σ outcome + c·overall) / (n_k + c),   c = SHRINKAGE

    Exposures before the log of which only the long view is known (`censored`) count towards the exposures
    and the long views from the start.

    Only exposures in feeds that play by themselves count: in two-column feeds nearly every exposure has
    0 s without having been looked at. Those are the tabs where over half of the train rows have none.

    Buffers: one table a key, `[rows of the vocabulary, 5]`, columns as `COLUMNS`.
    """

    scale: Standardised
    """Over what training rows see, `[15]`: the networks read columns of one scale, trees the means."""

    def __init__(self, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        for key, size in enumerate(sizes):
            self.register_buffer(f"table_{key}", torch.zeros(size, len(COLUMNS)))
        self.scale = Standardised(KEYS * len(COLUMNS))

    @property
    def width(self) -> int:
        """Columns that `forward` returns."""
        return KEYS * len(COLUMNS)

    def table(self, key: int) -> Tensor:
        """Return the `[rows, 5]` table of the video (0), the author or the tag."""
        table: Tensor = getattr(self, f"table_{key}")
        return table

    def fit(self, log: Interactions, rows: I64, censored: tuple[F64, F64, F64] | None = None) -> F32:
        """Fit the tables on `rows` and return what each of them may see while fitting.

        Args:
            log: the exposures.
            rows: `[R]` indices of those to learn from.
            censored: see `Dataset.censored`.

        Returns:
            `[R, 15]` the running statistics before each row, unknown keys included.
        """
        rows = np.asarray(rows)
        counted = _plays_by_itself(log, rows)
        value_N4 = outcomes(log.watch_time_s[rows], log.duration_s[rows])
        overall_4 = value_N4[counted].mean(axis=0) if counted.any() else np.zeros(4, np.float32)
        order = np.argsort(log.timestamp_ms[rows], kind="stable")
        causal = np.empty((len(rows), self.width), np.float32)
        for key in range(KEYS):
            entry = log.ids[rows, key]
            before = _running(entry[order], log.timestamp_ms[rows][order], value_N4[order], counted[order])
            table = self.table(key)
            earlier = np.zeros((len(table), 2)) if censored is None else censored[key]
            start = key * len(COLUMNS)
            causal[order, start : start + len(COLUMNS)] = _shrink(before, earlier[entry[order]], overall_4)
            total = np.zeros((len(table), 5), np.float64)
            np.add.at(total, entry[counted], np.c_[np.ones(counted.sum()), value_N4[counted]])
            table.copy_(torch.from_numpy(_shrink(total, earlier, overall_4)))
        self.scale.fit(torch.from_numpy(causal))
        return causal

    def scaled_table(self, key: int) -> Tensor:
        """Return `table` in the scale of the training rows."""
        columns = slice(key * len(COLUMNS), (key + 1) * len(COLUMNS))
        return (self.table(key) - self.scale.mean[columns]) * self.scale.factor[columns]

    def forward(self, candidate_ids_BN3: Tensor) -> Tensor:
        """Return `[B, N, 15]` from `[B, N, 3]` indices of video, author and tag."""
        parts = [embedding(candidate_ids_BN3[..., key], self.table(key)) for key in range(KEYS)]
        return torch.cat(parts, dim=-1)


def _plays_by_itself(log: Interactions, rows: I64) -> npt.NDArray[np.bool_]:
    tab = log.tab[rows]
    watched = np.bincount(tab, log.watch_time_s[rows] > 0)
    exposed = np.bincount(tab)
    keep: npt.NDArray[np.bool_] = (watched > 0.5 * exposed)[tab]
    return keep


def _running(entry: I64, timestamp_ms: I64, value_N4: F32, counted: npt.NDArray[np.bool_]) -> F64:
    """`[N, 5]` count and sums over the earlier rows of the same entry; rows are in time order.

    Rows of one entry in one millisecond do not see each other.
    """
    weighted = np.c_[np.ones(len(entry)), value_N4] * counted[:, None]
    by_entry = np.lexsort((timestamp_ms, entry))
    sums = np.cumsum(weighted[by_entry], axis=0)
    # first row of each (entry, millisecond): what came before it is common to the whole tie
    e, t = entry[by_entry], timestamp_ms[by_entry]
    new_entry = np.r_[True, e[1:] != e[:-1]][: len(e)]
    new_tie = new_entry | np.r_[True, t[1:] != t[:-1]][: len(e)]
    before = np.zeros_like(sums)
    before[1:] = sums[:-1]
    base = before[np.maximum.accumulate(np.where(new_entry, np.arange(len(e)), 0))]
    at_tie = before[np.maximum.accumulate(np.where(new_tie, np.arange(len(e)), 0))]
    out = np.empty_like(sums)
    out[by_entry] = at_tie - base
    return out


def _shrink(sums_N5: F64, earlier_N2: F64, overall_4: F32) -> F32:
    """Counts and sums -> `COLUMNS`; `earlier` holds censored exposures and their long views."""
    count, earlier = sums_N5[:, :1], earlier_N2[:, :1]
    mean = (sums_N5[:, 1:] + SHRINKAGE * overall_4) / (count + SHRINKAGE)
    known = count + earlier + SHRINKAGE
    mean[:, :1] = (sums_N5[:, 1:2] + earlier_N2[:, 1:] + SHRINKAGE * overall_4[0]) / known
    return np.concatenate([np.log1p(count + earlier), mean], axis=1).astype(np.float32)
