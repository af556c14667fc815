"""Videos as short sequences of tokens: residual vector quantisation of what is known of them."""

# Shape suffixes: V videos (rows of the vocabulary), N rows of the log, C columns, T tokens of a video.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from pydantic import PositiveInt

from models.arrays import F32, I64
from models.vocabulary import FIRST
from training.config import Config
from training.data import Interactions
from training.encoders import CoVisitation
from training.lda import k_means, nearest_codes

START: Final = 1
"""The token before the first video; 0 is padding."""
ACTIONS: Final = ("part", "whole", "like", "before the log")
"""What a user did with a video; of long views before the log only likes are known."""
_FIRST_ACTION: Final = START + 1
_FIRST_CODE: Final = _FIRST_ACTION + len(ACTIONS)


def action_tokens(action: I64) -> I64:
    """Return the tokens of indices into `ACTIONS`."""
    return action + _FIRST_ACTION


class SemanticIdsConfig(Config):
    """Hyperparameters of `fit_semantic_ids`."""

    levels: PositiveInt = 3
    codes: PositiveInt = 256
    """Of each level; at most as many as there are videos."""
    rounds: PositiveInt = 20
    """Of Lloyd's iteration."""


@dataclass(frozen=True)
class SemanticIds:
    """Tokens of every video of a catalogue."""

    token: I64
    """`[V, T]`; a line of zeros where a video is not in the catalogue. No two videos have the same line."""
    tokens: int
    """How many tokens there are, those of `ACTIONS` among them."""

    @property
    def catalogue(self) -> I64:
        """Videos that have tokens, ascending."""
        return np.flatnonzero(self.token[:, 0]).astype(np.int64)


def fit_semantic_ids(feature_VC: F32, known_V: I64, config: SemanticIdsConfig, *, seed: int) -> SemanticIds:
    """Quantise vectors by residuals, and tell apart by a last token who has the same codes.

        r_1 = x      c_l = argmin_k ‖r_l - b_lk‖²      r_(l+1) = r_l - b_l,c_l

    The last token is the number of the video among those with its codes.

    Args:
        feature_VC: of every video.
        known_V: the videos of the catalogue.
        config: levels and codes.
        seed: of the first codes.

    Source: RQ-VAE of Rajput et al., TIGER, NeurIPS 2023. Ours: k-means of the residuals without an
    auto-encoder, as in Luo et al., QARM, 2024.
    """
    generator = torch.Generator().manual_seed(seed)
    residual_1NC = torch.from_numpy(feature_VC[known_V])[None]
    codes = min(config.codes, len(known_V))
    levels: list[I64] = []
    for _ in range(config.levels):
        book_1KC = k_means(residual_1NC, codes, rounds=config.rounds, generator=generator)
        code_1N = nearest_codes(residual_1NC, book_1KC)
        residual_1NC = residual_1NC - book_1KC[:, code_1N[0]]
        levels.append(code_1N[0].numpy())
    code_NT = np.stack([*levels, np.zeros_like(levels[0])], axis=1)
    order = np.lexsort(code_NT.T[::-1])
    new = np.append(True, (np.diff(code_NT[order], axis=0) != 0).any(axis=1))
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    code_NT[order, -1] = np.arange(len(order)) - first
    return _numbered(code_NT, known_V, len(feature_VC))


def one_token_ids(known_V: I64, videos: int) -> SemanticIds:
    """Give every video of the catalogue a token of its own."""
    return _numbered(np.arange(len(known_V))[:, None], known_V, videos)


def _numbered(code_NT: I64, known_V: I64, videos: int) -> SemanticIds:
    """Number the codes of all levels after the other tokens."""
    sizes = code_NT.max(axis=0) + 1
    offsets = _FIRST_CODE + np.append(0, np.cumsum(sizes)[:-1])
    token_VT = np.zeros((videos, code_NT.shape[1]), np.int64)
    token_VT[known_V] = code_NT + offsets
    return SemanticIds(token_VT, int(_FIRST_CODE + sizes.sum()))


def video_features(log: Interactions, rows: I64, known_V: I64, videos: int) -> F32:
    """Return what semantic ids are made of, `[V, C]`.

    Tag (one-hot), the mean co-watch vector of the author's videos, log duration, and the co-watch vector
    (`CoVisitation`) of some rows and the exposures before the log. Each of the four has a mean square of 1
    over the catalogue, duration a quarter of it.

    Args:
        log: any prepared log.
        rows: what the vectors may know.
        known_V: the catalogue.
        videos: V.
    """
    watched_VC = CoVisitation(videos).fit(log, rows).vector.numpy()
    author_V, tag_V, log_duration_V = np.zeros((3, videos))
    author_V[log.ids[rows, 0]], tag_V[log.ids[rows, 0]] = log.ids[rows, 1], log.ids[rows, 2]
    log_duration_V[:] = float(np.log(log.duration_s[rows]).mean())
    log_duration_V[log.ids[rows, 0]] = np.log(log.duration_s[rows])
    author_V, tag_V = author_V.astype(np.int64), tag_V.astype(np.int64)
    sum_AC = np.stack([np.bincount(author_V, column_V) for column_V in watched_VC.T], axis=1)
    sum_AC[:FIRST] = 0.0  # of unknown authors
    author_VC = sum_AC[author_V] / np.maximum(np.bincount(author_V)[author_V, None], 1)
    tag_VC = np.eye(int(tag_V.max()) + 1)[tag_V]
    blocks = ((tag_VC, 1.0), (author_VC, 1.0), (log_duration_V[:, None], 0.5), (watched_VC, 1.0))
    columns = []
    for block_VC, weight in blocks:
        centred_VC = block_VC - block_VC[known_V].mean(axis=0)
        size = np.sqrt((centred_VC[known_V] ** 2).sum(axis=1).mean())
        columns.append(weight * centred_VC / max(size, 1e-6))
    return np.concatenate(columns, axis=1).astype(np.float32)
