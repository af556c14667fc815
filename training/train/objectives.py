"""Which objectives a log allows: what never happens, or always does, cannot be learned."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from training.data import Dataset, feedback_columns
from training.rankers import NAMES, outcomes, outcomes_with
from training.train.run_config import RunConfig


def choose_objectives(
    dataset: Dataset, config: RunConfig, before_ms: int
) -> tuple[RunConfig, dict[str, int]]:
    """Return the config with the outcomes and signals that the log allows, and how often the others happened.

    An outcome must have happened on `ObjectivesConfig.least` exposures before a moment, and not have happened
    on as many. What a config names itself stays as it is, and so does one that predicts none.

    Args:
        dataset: the log.
        config: the run's.
        before_ms: where the test days begin.
    """
    objectives = config.objectives
    if objectives is None:
        return config, {}
    signals = dataset.signals
    candidates = {"names": NAMES, "signals": signals.flags}
    sought = {
        member: names for member, names in candidates.items() if names and getattr(objectives, member) is None
    }
    rows = dataset.log.filter(pl.col("timestamp_ms") < before_ms)
    happened = outcomes(feedback_columns(rows, signals), signals).sum(axis=0, dtype=int).tolist()
    counts = dict(zip((outcome.name for outcome in outcomes_with(signals)), happened, strict=True))
    left_out = {
        name: counts[name]
        for names in sought.values()
        for name in names
        if min(counts[name], len(rows) - counts[name]) < objectives.least
    }
    allowed = {member: tuple(n for n in names if n not in left_out) for member, names in sought.items()}
    return config.model_copy(update={"objectives": objectives.model_copy(update=allowed)}), left_out


def describe_left_out(left_out: Mapping[str, int], least: int) -> str:
    """Return in a sentence which objectives are not learned, and how often each happened."""
    counts = ", ".join(f"{name} ({count:,})" for name, count in left_out.items())
    return f"not learned, because they happened, or did not, on fewer than {least} exposures: {counts}"
