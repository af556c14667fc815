"""Vectors of videos from who was shown and who watched them: frozen, beside the learned embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32, F64, I64
from models.metrics import long_view
from models.vocabulary import FIRST
from training.data import Interactions

# Shape suffixes: E exposures, U users, V rows of the vocabulary, C columns of a vector.

EXPOSURE_WIDTH: Final = 32
"""Singular vectors of the exposures; the first, which is how popular a video is, is left out."""
TASTE_WIDTH: Final = 24
"""Singular vectors of the long views."""
WIDTH: Final = EXPOSURE_WIDTH + TASTE_WIDTH + 1
"""Columns of a vector; the last is the share of long views."""

_USER_SHRINKAGE: Final = 1.0
_VIDEO_SHRINKAGE: Final = 20.0
_RATE_SHRINKAGE: Final = 5.0
_ROUNDS: Final = 6
"""Power iterations of the randomised decomposition."""


class CoVisitation(nn.Module):
    """What the videos' audiences have in common, `[V, C]`.

        X = D_u A D_v       A_uv = 1 where v was shown to u         -> right singular vectors 2 … 33
        Y = D_u R D_v       R_uv = long view - share of v's          -> right singular vectors 1 … 24
        D_u = (n_u + 1)^-½, D_v = (n_v + 20)^-½

    of the training rows and of the exposures before the log, of which only flags are known. Videos that are
    unknown have zeros. A video shown once is near to what its only user was shown: id embeddings learn that
    from the log alone, and far slower.
    """

    vector: Tensor
    """`[V, C]`, frozen"""

    def __init__(self, videos: int) -> None:
        super().__init__()
        self.register_buffer("vector", torch.zeros(videos, WIDTH))

    def fit(self, log: Interactions, rows: I64) -> Self:
        """Compute the vectors from `rows` and the history of their users."""
        audience = _Audience.from_log(log, rows, len(self.vector))
        if len(audience.user):
            exposure, _ = _right_vectors(audience, audience.weight, EXPOSURE_WIDTH + 1)
            taste, strength = _right_vectors(audience, audience.taste, TASTE_WIDTH)
            taste = taste * strength.sqrt()
            self._assemble(audience, exposure, taste / taste.std().clamp(min=1e-9))
        return self

    def refit(
        self,
        log: Interactions,
        rows: I64,
        former: CoVisitation,
        former_log: Interactions,
        former_rows: I64,
        row_V: I64,
    ) -> Self:
        """Compute the vectors from fewer rows, in the coordinates of vectors that were fitted on more.

            V' = X'ᵀ X' V Σ⁻²      X = U Σ Vᵀ of the former rows, X' of those that remain

        With X' = X it is V: what users who are left out add to a video's vector is subtracted. A
        decomposition of X' alone would have axes of its own, which weights fitted before do not know.

        Args:
            log, rows: what remains.
            former: the former vectors, by a vocabulary of their own.
            former_log, former_rows: what they were fitted on.
            row_V: the row of each video in `former`.
        """
        before = _Audience.from_log(former_log, former_rows, len(former.vector))
        audience = _Audience.from_log(log, rows, len(self.vector))
        self.vector.zero_()
        if len(audience.user):
            exposure, scale = _right_vectors(before, before.weight, EXPOSURE_WIDTH + 1)
            taste, strength = _right_vectors(before, before.taste, TASTE_WIDTH)
            deviation = (taste * strength.sqrt()).std().clamp(min=1e-9)
            at = torch.from_numpy(row_V)
            exposure = _projected(audience, audience.weight, exposure[at], scale)
            taste = _projected(audience, audience.taste, taste[at], strength)
            self._assemble(audience, exposure, taste * strength.sqrt() / deviation)
        return self

    def _assemble(self, audience: _Audience, exposure: Tensor, taste: Tensor) -> None:
        exposure = nn.functional.normalize(exposure[:, 1:], dim=1) * (EXPOSURE_WIDTH**0.5 / 2)
        popular = torch.from_numpy((audience.share - audience.overall) / 0.2).to(torch.float32)
        known_V1 = torch.from_numpy(audience.count > 0)[:, None]
        vector = torch.cat([exposure, taste, popular[:, None]], dim=1) * known_V1
        vector[:FIRST] = 0.0
        self.vector.copy_(vector)

    def forward(self, video_N: Tensor) -> Tensor:
        """Return `[..., C]` from `[...]` indices of videos."""
        return embedding(video_N, self.vector)


@dataclass(frozen=True)
class _Audience:
    """Who was shown what, and the weights of both matrices."""

    user: I64
    """`[E]`"""
    video: I64
    """`[E]`"""
    weight: F64
    """`[E]` entries of X."""
    taste: F64
    """`[E]` entries of Y."""
    count: I64
    """`[V]` exposures."""
    share: F64
    """`[V]` share of long views, shrunk towards `overall`."""
    overall: float

    @classmethod
    def from_log(cls, log: Interactions, rows: I64, videos: int) -> Self:
        """Count the exposures of rows of a log and those of their users' history."""
        user, video, long_view_E = _exposures(log, rows)
        count = np.bincount(video, minlength=videos)
        overall = float(long_view_E.mean()) if len(user) else 0.0
        long_views = np.bincount(video, long_view_E, minlength=videos) + _RATE_SHRINKAGE * overall
        share = long_views / (count + _RATE_SHRINKAGE)
        weight = (np.bincount(user) + _USER_SHRINKAGE)[user] ** -0.5
        weight *= (count + _VIDEO_SHRINKAGE)[video] ** -0.5
        taste = (weight * (long_view_E - share[video])).astype(np.float64)
        return cls(user, video, weight.astype(np.float64), taste, count, share.astype(np.float64), overall)

    def matrix(self, value_E: F64) -> Tensor:
        """Return a sparse matrix of users and videos."""
        index = torch.from_numpy(np.stack([self.user, self.video]))
        values = torch.from_numpy(value_E.astype(np.float32))
        shape = (int(self.user.max()) + 1, len(self.count))
        return torch.sparse_coo_tensor(index, values, shape, check_invariants=True).coalesce()


def _exposures(log: Interactions, rows: I64) -> tuple[I64, I64, F32]:
    """User, video and long view of every exposure that is known of, `[E]` each; unknown videos left out."""
    users, at = np.nonzero(log.history_ids >= FIRST)
    seen = np.isin(users, log.user[rows])
    users, at = users[seen], at[seen]
    flags = log.history_feedback[users, at, 0] if len(users) else np.zeros(0, np.float32)
    known = rows[log.ids[rows, 0] >= FIRST]
    return (
        np.concatenate([users, log.user[known]]),
        np.concatenate([log.history_ids[users, at], log.ids[known, 0]]),
        np.concatenate([flags, long_view(log.watch_time_s[known], log.duration_s[known])]).astype(np.float32),
    )


def _right_vectors(audience: _Audience, value_E: F64, width: int) -> tuple[Tensor, Tensor]:
    """The leading right singular vectors `[V, width]` of a sparse matrix, and its singular values.

    Zeros where the matrix has fewer than `width`.
    """
    matrix = audience.matrix(value_E)
    rank = min(width, *matrix.shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, strength, vectors = torch.svd_lowrank(matrix, q=min(rank + 8, *matrix.shape), niter=_ROUNDS)
    out, values = torch.zeros(matrix.shape[1], width), torch.zeros(width)
    out[:, :rank], values[:rank] = vectors[:, :rank], strength[:rank]
    return out, values


def _projected(audience: _Audience, value_E: F64, vectors_VC: Tensor, strength_C: Tensor) -> Tensor:
    """XᵀX V Σ⁻², 0 in columns without strength."""
    matrix = audience.matrix(value_E)
    inverse_C = torch.where(strength_C > 1e-6, strength_C.clamp(min=1e-6) ** -2.0, 0.0)
    return (matrix.T @ (matrix @ vectors_VC)) * inverse_C
