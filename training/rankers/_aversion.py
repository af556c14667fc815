"""A hate lowers what it touches, whatever else was learned."""

# Shape suffixes: T objectives.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from training.rankers._outcomes import Side

SECONDS: Final = (3.0, 0.3, 0.05)
"""a of watch time, for hates of the same author, of the same tag, and of anything. A prior, not learned: on
KuaiRand-Pure one exposure in 1,200 is hated, and hardly any is followed by the same author's. One hate leaves
an eighth of the author's seconds, to outweigh a whole view of the same author."""


class Aversion(nn.Module):
    """Watch time and probabilities as they fall with what was hated, u, see `FeedbackEncoder.rows`.

        ŵ ← ŵ · exp(-a · u)                     a fixed, see `SECONDS`
        logit_t ← logit_t ∓ softplus(b_t) · u   minus for what speaks for a candidate, plus for skip and hate

    The encoder reads nothing of a hated step, so this is all that a hate does: no candidate of the hated
    author gains by it, for any weights. It lasts as long as the step is in the sequence, and in a full one it
    moves the oldest step to the history besides.

    Args:
        sides: of each of the T objectives with a logit.
    """

    sign: Tensor

    def __init__(self, sides: Sequence[Side]) -> None:
        super().__init__()
        start = torch.tensor([math.log(math.expm1(a)) for a in SECONDS])
        self.weight = nn.Parameter(start.repeat(max(1, len(sides)), 1))
        sign = [-1.0 if side == "positive" else 1.0 for side in sides]
        self.register_buffer("sign", torch.tensor(sign), persistent=False)
        self.register_buffer("of_seconds", torch.tensor(SECONDS)[:, None], persistent=False)

    of_seconds: Tensor

    def watch_share(self, dislike_3: Tensor) -> Tensor:
        """Return the share of the watch time that is left, `[..., 3]` -> `[...]`."""
        return torch.exp(-(dislike_3 @ self.of_seconds)).squeeze(-1)

    def shift(self, dislike_3: Tensor) -> Tensor:
        """Return what is added to the logits, `[..., 3]` -> `[..., T]`."""
        return (dislike_3 @ softplus(self.weight[: len(self.sign)]).T) * self.sign
