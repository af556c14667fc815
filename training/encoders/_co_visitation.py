"""Vectors of videos from who was shown and who watched them: frozen, beside the learned embeddings."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32, I64
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
        user_E, video_E, long_view_E = _exposures(log, rows)
        if not len(user_E):
            return self
        videos = len(self.vector)
        count_V = np.bincount(video_E, minlength=videos)
        overall = float(long_view_E.mean())
        long_views_V = np.bincount(video_E, long_view_E, minlength=videos) + _RATE_SHRINKAGE * overall
        share_V = long_views_V / (count_V + _RATE_SHRINKAGE)
        weight_E = (np.bincount(user_E) + _USER_SHRINKAGE)[user_E] ** -0.5
        weight_E *= (count_V + _VIDEO_SHRINKAGE)[video_E] ** -0.5
        shape = (int(user_E.max()) + 1, videos)
        shown, _ = _right_vectors(user_E, video_E, weight_E, shape, EXPOSURE_WIDTH + 1)
        taste, strength = _right_vectors(
            user_E, video_E, weight_E * (long_view_E - share_V[video_E]), shape, TASTE_WIDTH
        )
        shown = nn.functional.normalize(shown[:, 1:], dim=1) * (EXPOSURE_WIDTH**0.5 / 2)
        taste = taste * strength.sqrt()
        taste = taste / taste.std().clamp(min=1e-9)
        popular = torch.from_numpy((share_V - overall) / 0.2).to(torch.float32)
        known_V1 = torch.from_numpy(count_V > 0)[:, None]
        vector = torch.cat([shown, taste, popular[:, None]], dim=1) * known_V1
        vector[:FIRST] = 0.0
        self.vector.copy_(vector)
        return self

    def forward(self, video_N: Tensor) -> Tensor:
        """Return `[..., C]` from `[...]` indices of videos."""
        return embedding(video_N, self.vector)


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


def _right_vectors(
    user_E: I64, video_E: I64, value_E: F32, shape: tuple[int, int], width: int
) -> tuple[Tensor, Tensor]:
    """The leading right singular vectors `[V, width]` of a sparse matrix, and its singular values.

    Zeros where the matrix has fewer than `width`.
    """
    index = torch.from_numpy(np.stack([user_E, video_E]))
    matrix = torch.sparse_coo_tensor(
        index, torch.from_numpy(value_E.astype(np.float32)), shape, check_invariants=True
    )
    rank = min(width, *shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, strength, vectors = torch.svd_lowrank(matrix.coalesce(), q=min(rank + 8, *shape), niter=_ROUNDS)
    out, values = torch.zeros(shape[1], width), torch.zeros(width)
    out[:, :rank], values[:rank] = vectors[:, :rank], strength[:rank]
    return out, values
