"""Other ways to forget rows of a model of ids."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.func import grad

from training.experiments.forgetting.config import FitConfig
from training.experiments.forgetting.fit import fit_table
from training.experiments.forgetting.id_model import IdModel, total_loss
from training.experiments.forgetting.rows import Rows


def fine_tune(
    model: IdModel, table_VD: Tensor, remaining: Rows, config: FitConfig, *, epochs: int, seed: int
) -> Tensor:
    """Return the table after more epochs on the remaining rows, at half the rate of the fit."""
    briefly = config.model_copy(update={"epochs": epochs, "learning_rate": config.learning_rate / 2})
    return fit_table(model.on_rows(remaining), remaining, len(table_VD), briefly, seed=seed, start=table_VD)


def ascend(model: IdModel, table_VD: Tensor, forgotten: Rows, *, steps: int, rate: float) -> Tensor:
    """Return the table after steps up the gradient of the forgotten rows' summed loss.

    Source: Golatkar et al., "Eternal Sunshine of the Spotless Net", CVPR 2020, where it is a baseline.
    """
    gradient = grad(lambda table: total_loss(model, table, forgotten))
    for _ in range(steps):
        table_VD = table_VD + rate * gradient(table_VD)
    return table_VD


class Shards:
    """SISA: one model for each shard of the users, whose logits are averaged; only shards with forgotten rows
    are fitted again.

    Args:
        model: what each is.
        rows: what all together are fitted on.
        nodes: V.
        count: of shards.
        config: of each fit.
        seed: of the fits.

    Source: Bourtoule et al., "Machine Unlearning", S&P 2021. A shard is one slice here.
    """

    def __init__(
        self, model: IdModel, rows: Rows, nodes: int, count: int, config: FitConfig, *, seed: int
    ) -> None:
        self.model, self.rows, self.nodes, self.count = model, rows, nodes, count
        self.config, self.seed = config, seed
        self.fits = [self._fit(rows, shard) for shard in range(count)]

    def without(self, removed: Tensor) -> Sequence[tuple[IdModel, Tensor]]:
        """Return model and table of every shard, refitted where rows go.

        Args:
            removed: which rows to forget, bool `[N]`.
        """
        touched, remaining = set((self.rows.user[removed] % self.count).tolist()), self.rows.take(~removed)
        return [self._fit(remaining, n) if n in touched else fit for n, fit in enumerate(self.fits)]

    def _fit(self, rows: Rows, shard: int) -> tuple[IdModel, Tensor]:
        part = rows.take(rows.user % self.count == shard)
        model = self.model.on_rows(part)
        return model, fit_table(model, part, self.nodes, self.config, seed=self.seed + shard)
