"""Fitting a model of ids: Adam on shuffled batches."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from training.experiments.forgetting.config import FitConfig
from training.experiments.forgetting.id_model import IdModel, total_loss
from training.experiments.forgetting.rows import Rows


def fit_table(
    model: IdModel, rows: Rows, nodes: int, config: FitConfig, *, seed: int, start: Tensor | None = None
) -> Tensor:
    """Minimise the penalised cross entropy.

        Σ_rows softplus(-sign · logit) + λ/2 ‖table‖²

    Args:
        model: on the graph of the rows.
        rows: what is fitted.
        nodes: V.
        config: sizes and rates.
        seed: of the start and of the order of rows.
        start: the table to continue from; by default small random numbers.

    Returns:
        `[V, D]` embeddings and biases.
    """
    random = torch.Generator().manual_seed(seed)
    first = 0.1 * torch.randn(nodes, config.width + 1, generator=random) if start is None else start.clone()
    table, size = first.requires_grad_(), len(rows.user)
    optimizer = Adam([table], lr=config.learning_rate, foreach=False)
    batches = -(-size // config.batch_size)
    schedule = CosineAnnealingLR(optimizer, config.epochs * batches)
    for _ in range(config.epochs):
        for batch in torch.randperm(size, generator=random).chunk(batches):
            penalty = config.penalty / (2 * size) * table.square().sum()
            loss = total_loss(model, table, rows.take(batch)) / len(batch) + penalty
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return table.detach()
