"""The weights that a label maker starts from: what one row alone contributes to the objectives."""

# Shape suffixes: B rows of a batch.

from __future__ import annotations

import numpy as np
import torch

from training.data import Interactions
from training.labelcraft._model import LabelCraft
from training.labels import explicit, watch_time_s

_STEPS = 300
_BATCH = 2048
_LEARNING_RATE = 3e-3
LOW, RANGE = 0.2, 0.6  # room for the sigmoid to move in both directions


def warm_start(label_maker: LabelCraft, train: Interactions, *, seed: int) -> None:
    """Regress g_φ on `0.2 + 0.6 (scale(w) + e) / 2`, in place; its scales are fitted.

    Usage time and engagement are sums over the slate's rows; this is a row's term of them, shifted and
    squeezed, which no ranking notices. From there the outer level has a recommender to improve. From random
    weights it first has to make one out of labels that differ in the third digit, which takes the authors'
    up to 1000 epochs. Ours.
    """
    random = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(label_maker.parameters(), lr=_LEARNING_RATE)
    feedback = torch.from_numpy(train.feedback)
    for _ in range(_STEPS):
        batch_BF = feedback[torch.from_numpy(random.integers(len(feedback), size=_BATCH))]
        term_B = (label_maker.watch_scale(watch_time_s(batch_BF)) + explicit(batch_BF)) / 2
        loss = torch.nn.functional.mse_loss(label_maker(batch_BF), LOW + RANGE * term_B)
        grads = torch.autograd.grad(loss, list(label_maker.parameters()))
        for p, g in zip(label_maker.parameters(), grads, strict=True):
            p.grad = g
        optimiser.step()
    for p in label_maker.parameters():
        p.grad = None
