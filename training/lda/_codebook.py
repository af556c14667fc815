"""Codebooks: the nearest code of a vector, and codes where the vectors are."""

# Shape suffixes: G groups, L vectors of a group, C dimensions, K codes.

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def nearest_codes(vector_GLC: Tensor, book_GKC: Tensor) -> Tensor:
    """Return the `[G, L]` index of each vector's nearest code, by squared distance."""
    squares_G1K = (book_GKC**2).sum(-1)[:, None, :]
    return torch.baddbmm(squares_G1K, vector_GLC, book_GKC.mT, alpha=-2).argmin(-1)


def moved_codes(book_GKC: Tensor, vector_GLC: Tensor, code_GL: Tensor, *, rate: float) -> Tensor:
    """Return `[G, K, C]` codes, each moved by `rate` of the way to the mean of its vectors."""
    member_GLK = one_hot(code_GL, book_GKC.shape[1]).to(vector_GLC.dtype)
    count_GK1 = member_GLK.sum(1)[..., None]
    mean_GKC = member_GLK.mT @ vector_GLC / count_GK1.clamp(min=1)
    return book_GKC + torch.where(count_GK1 > 0, rate * (mean_GKC - book_GKC), 0.0)


def random_codes(vector_GLC: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """Return `[G, K, C]` vectors of each group, drawn with replacement."""
    groups, vectors, width = vector_GLC.shape
    pick_GK = torch.randint(vectors, (groups, codes), generator=generator)
    return vector_GLC.gather(1, pick_GK[..., None].expand(groups, codes, width))


def k_means(vector_GLC: Tensor, codes: int, *, rounds: int, generator: torch.Generator) -> Tensor:
    """Return `[G, K, C]` codes by rounds of Lloyd's from random vectors."""
    book_GKC = random_codes(vector_GLC, codes, generator)
    for _ in range(rounds):
        book_GKC = moved_codes(book_GKC, vector_GLC, nearest_codes(vector_GLC, book_GKC), rate=1.0)
    return book_GKC
