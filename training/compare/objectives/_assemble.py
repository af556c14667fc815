"""Outcomes of the fits as rows of the table, each against GradCraft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from training.compare._jobs import Job, Outcome
from training.compare._report import Measure, Row, Versus, over_seeds, summary, versus
from training.compare.objectives._methods import Method
from training.compare.objectives._world import CompareObjectivesConfig

REFERENCE: Final = "gradcraft"
"""The method that every row is put beside."""


def assemble(
    methods: Sequence[Method], outcomes: Mapping[Job, Outcome], config: CompareObjectivesConfig
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
    compared = _against(fitted, config)
    rows = []
    for method in methods:
        results = fitted.get(method.name, [])
        metrics = {
            name: summary([result["figures"].get(name) for result in results])
            for name in (results[0]["figures"] if results else ())
        }
        more: dict[str, Any] = {"ablation": method.ablation}
        for name in ("parameters", "seconds", "cpu_s", "epochs"):
            known = [result[name] for result in results if result.get(name) is not None]
            more[name] = round(float(np.median(known)), 1) if known else None
        if results and "curve" in results[0]:
            more["curve"] = results[0]["curve"]
        rows.append(
            Row(method.name, method.says, refused[method.name], metrics, compared.get(method.name, {}), more)
        )
    return rows


def _against(
    fitted: Mapping[str, list[dict[str, Any]]], config: CompareObjectivesConfig
) -> dict[str, dict[str, Versus]]:
    """GradCraft against every other row, user by user, over the seeds that both have."""
    if REFERENCE not in fitted:
        return {}
    compared = {}
    for name, results in fitted.items():
        if name == REFERENCE:
            continue
        seeds = min(len(results), len(fitted[REFERENCE]))
        mine = over_seeds([r["values"] for r in fitted[REFERENCE][:seeds]])
        users = len(next(iter(mine.values())))
        (compared[name],) = versus(
            mine,
            [over_seeds([r["values"] for r in results[:seeds]])],
            {kind: Measure(kind, np.ones(users)) for kind in mine},
            resamples=config.resamples,
            seed=config.seed,
        )
    return compared
