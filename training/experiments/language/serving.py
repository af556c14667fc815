"""What the log-probability of each candidate would cost in a request."""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
import torch

from models.arrays import I64
from training.language import (
    CausalTransformer,
    LanguageConfig,
    SemanticIds,
    Trie,
    Windows,
    exact_scores,
    token_rows,
)

_CANDIDATES: Final = (50, 100, 200, 500)
_REPEATS: Final = 20


def measure_serving(ids: SemanticIds, known_V: I64, config: LanguageConfig) -> list[dict[str, Any]]:
    """Return milliseconds of processor time of one user, by candidates; weights do not matter for it.

    `prompt_ms` is the reading of a full history, which could be cached for a user; `candidates_ms` the trie
    of the candidates and their log-probabilities; `prompt_bytes` what would be cached.
    """
    random = np.random.default_rng(0)
    model = CausalTransformer(ids.tokens, config.transformer).eval()
    video_1M = random.choice(known_V, (1, config.length))
    history = Windows(video_1M, np.zeros_like(video_1M), np.zeros(video_1M.shape, np.bool_))
    token_1L = torch.from_numpy(token_rows(history, ids, actions=config.actions))
    out = []
    for candidates in _CANDIDATES:
        chosen = np.sort(random.choice(known_V, min(candidates, len(known_V)), replace=False))
        prompt_s, candidates_s = [], []
        for _ in range(_REPEATS):
            began = time.process_time()
            with torch.no_grad():
                prompt = model.read(token_1L)
            read = time.process_time()
            exact_scores(model, Trie(ids.token[chosen], chosen), prompt)
            prompt_s.append(read - began)
            candidates_s.append(time.process_time() - read)
        cached = sum(cache.numel() * cache.element_size() for cache in (*prompt.keys, *prompt.values))
        out.append(
            {
                "candidates": len(chosen),
                "prompt_ms": 1000 * float(np.median(prompt_s)),
                "candidates_ms": 1000 * float(np.median(candidates_s)),
                "prompt_bytes": cached,
            }
        )
    return out
