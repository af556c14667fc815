"""The most probable videos after a prompt: by beam search along the trie, or all of them exactly."""

# Shape suffixes: B prompts, W beams, C children, V videos of the trie, Z tokens of the vocabulary.

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.language._transformer import LanguageModel, Prompt, Suffix
from training.language._trie import NONE, Trie


class Beams(NamedTuple):
    """Videos by log-probability, best first."""

    video: Tensor
    """`[B, W]` videos; `NONE` where the catalogue has fewer."""
    score: Tensor
    """`[B, W]` log-probabilities among the videos of the trie."""


@torch.no_grad()
def beam_search(model: LanguageModel, trie: Trie, prompt: Prompt, width: int) -> Beams:
    """Return about the W most probable videos of each prompt.

    Of every level of the trie the W most probable nodes are followed. The probability of a token is among
    those that may follow, so that the probabilities of all videos sum to 1.

    Args:
        model: in evaluation mode.
        trie: of the catalogue.
        prompt: what `model` has read.
        width: W.
    """
    rows = len(prompt.last)
    state_BWD = prompt.last[:, None]
    suffix: Suffix | None = None
    node_BW = torch.zeros(rows, 1, dtype=torch.int64)
    score_BW = torch.zeros(rows, 1)
    for level in range(trie.depth):
        child_BWC, log_BWC = _children(trie, level, node_BW, model.logits(state_BWD))
        total_BX = (score_BW[..., None] + log_BWC).flatten(1)
        score_BW, index_BW = total_BX.topk(min(width, total_BX.shape[1]), dim=1)
        node_BW = child_BWC.flatten(1).gather(1, index_BW)
        if level + 1 < trie.depth:
            parent_BW = index_BW // child_BWC.shape[2]
            # A beam without a node has probability 0 and leads nowhere: any will do.
            node_BW = node_BW.clamp(min=0)
            suffix = None if suffix is None else suffix.take(parent_BW)
            state_BWD, suffix = model.extend(prompt, suffix, trie.token[level + 1][node_BW])
    video_BW = torch.where(score_BW.isfinite(), trie.video[node_BW.clamp(min=0)], NONE)
    return Beams(video_BW, score_BW)


@torch.no_grad()
def exact_scores(model: LanguageModel, trie: Trie, prompt: Prompt) -> Tensor:
    """Return the log-probability of every video of the trie after each prompt, `[B, V]`, as `trie.video`.

    Every node with more than one video below it is read once. A trie of candidates alone gives their
    probabilities among each other.

    Args:
        model: in evaluation mode.
        trie: of the catalogue, or of candidates.
        prompt: what `model` has read.
    """
    rows = len(prompt.last)
    score_BN = torch.zeros(rows, 1)
    state_BND = prompt.last[:, None]
    suffix: Suffix | None = None
    open_N = torch.zeros(1, dtype=torch.int64)
    """Nodes of the level with more than one video below them: those that `state_BND` is of."""
    for level in range(trie.depth):
        child_NC, log_BNC = _children(trie, level, open_N.expand(rows, -1), model.logits(state_BND))
        real_NC = child_NC[0] != NONE
        parent_M = trie.parent[level + 1]
        score_BM = score_BN[:, parent_M]  # an only child has its parent's probability
        score_BM[:, child_NC[0][real_NC]] += log_BNC[:, real_NC]
        score_BN = score_BM
        open_M = torch.nonzero(trie.videos_below[level + 1] > 1)[:, 0]
        if not len(open_M):
            break  # every node has one video, in the order of the videos
        at_M = torch.searchsorted(open_N, parent_M[open_M])
        suffix = None if suffix is None else suffix.take(at_M.expand(rows, -1))
        state_BND, suffix = model.extend(prompt, suffix, trie.token[level + 1][open_M].expand(rows, -1))
        open_N = open_M
    return score_BN


def _children(trie: Trie, level: int, node_BW: Tensor, logit_BWZ: Tensor) -> tuple[Tensor, Tensor]:
    """Return the children of nodes `[B, W, C]`, and their log-probabilities among each other."""
    child_BWC = trie.children[level][node_BW]
    token_BWC = trie.token[level + 1][child_BWC.clamp(min=0)]
    logit_BWC = logit_BWZ.gather(2, token_BWC).masked_fill(child_BWC == NONE, float("-inf"))
    return child_BWC, torch.log_softmax(logit_BWC, dim=2)
