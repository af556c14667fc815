"""Which objectives a log allows: what never happens, or always does, cannot be learned."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from models.features import FEEDBACK_COLUMNS
from training.data import Dataset
from training.rankers import NAMES, outcomes
from training.train.run_config import RunConfig


def choose_objectives(
    dataset: Dataset, config: RunConfig, before_ms: int
) -> tuple[RunConfig, dict[str, int]]:
    """Return the config with the outcomes that the log allows, and how often the others happened.

    An outcome must have happened on `ObjectivesConfig.least` exposures before a moment, and not have happened
    on as many. A config that names its outcomes, or predicts none, stays as it is.

    Args:
        dataset: the log.
        config: the run's.
        before_ms: where the test days begin.
    """
    objectives = config.objectives
    if objectives is None or objectives.names is not None:
        return config, {}
    rows = dataset.log.filter(pl.col("timestamp_ms") < before_ms)
    feedback = rows.select(pl.col(name).cast(pl.Float32) for name in FEEDBACK_COLUMNS).to_numpy()
    counts = dict(zip(NAMES, outcomes(feedback).sum(axis=0, dtype=int).tolist(), strict=True))
    allowed = tuple(
        name for name, count in counts.items() if min(count, len(rows) - count) >= objectives.least
    )
    chosen = config.model_copy(update={"objectives": objectives.model_copy(update={"names": allowed})})
    return chosen, {name: count for name, count in counts.items() if name not in allowed}


def describe_left_out(left_out: Mapping[str, int], least: int) -> str:
    """Return in a sentence which objectives are not learned, and how often each happened."""
    counts = ", ".join(f"{name} ({count:,})" for name, count in left_out.items())
    return f"not learned, because they happened, or did not, on fewer than {least} exposures: {counts}"
