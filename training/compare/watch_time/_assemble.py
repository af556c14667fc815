"""Outcomes of the fits as rows of the table, each against LDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from training.compare._jobs import Job, Outcome
from training.compare._report import Row, Versus, over_seeds, summary, versus
from training.compare.watch_time._judge import Judge
from training.compare.watch_time._methods import Method
from training.compare.watch_time._world import WatchTimeConfig, World

REFERENCE: Final = "lda"
"""The method that every row is put beside."""
KEPT: Final = ("by_duration", "by_prediction", "calibration", "anchors", "gain", "curve")
"""Of the first seed alone: what pictures and sentences are made of."""


def assemble(
    world: World, methods: Sequence[Method], outcomes: Mapping[Job, Outcome], config: WatchTimeConfig
) -> list[Row]:
    """Rows in the order of the methods; a method that refused this log is a row that says why."""
    found: dict[str, list[Outcome]] = {}
    for method in methods:
        jobs = [Job(method.name, seed) for seed in config.seeds_of(ablation=method.ablation)]
        found[method.name] = [outcomes[job] for job in jobs if job in outcomes]
    refused = {
        name: next((o.refused for o in all_ if o.refused is not None), None) for name, all_ in found.items()
    }
    fitted = {name: [o.result for o in all_] for name, all_ in found.items() if refused[name] is None}
    users = {name: over_seeds([r["values"] for r in results]) for name, results in fitted.items()}
    others = [name for name in fitted if name != REFERENCE]
    against: list[dict[str, Versus]] = [{} for _ in others]
    if REFERENCE in fitted:
        against = versus(
            users[REFERENCE],
            [users[name] for name in others],
            Judge(world.log, world.known, world.test).measures(),
            resamples=config.resamples,
            seed=config.seed,
        )
    compared = dict(zip(others, against, strict=True))
    rows = []
    for method in methods:
        results = fitted.get(method.name, [])
        metrics = {
            name: summary([result["figures"].get(name) for result in results])
            for name in (results[0]["figures"] if results else ())
        }
        more: dict[str, Any] = {"paper": method.paper, "ablation": method.ablation}
        if results:
            for name in ("parameters", "epochs", "microseconds", "seconds"):
                known = [result[name] for result in results if result[name] is not None]
                more[name] = round(float(np.median(known)), 1) if known else None
            more |= {name: results[0][name] for name in KEPT if name in results[0]}
            coverage = [r["calibration"]["coverage"] for r in results if "calibration" in r]
            if coverage:
                metrics["coverage"] = summary(coverage)
        rows.append(
            Row(
                method.name,
                method.says,
                refused[method.name],
                metrics,
                compared.get(method.name, {}),
                more,
            )
        )
    return rows
