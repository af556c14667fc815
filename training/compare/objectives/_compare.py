"""`compare objectives`: fit under every balancer, and write the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from training.compare._jobs import Job, Progress
from training.compare._report import write_json
from training.compare._run import fit_all
from training.compare.objectives._assemble import assemble
from training.compare.objectives._cost import step_costs
from training.compare.objectives._fit import prepare
from training.compare.objectives._markdown import markdown
from training.compare.objectives._methods import Method
from training.compare.objectives._world import CompareObjectivesConfig, open_world
from training.provenance import command, commit, machine
from training.staging import atomic_folder, refuse_existing


def compare_objectives(
    data: Path,
    out: Path,
    methods: Sequence[Method],
    config: CompareObjectivesConfig,
    *,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Fit every method with every seed, time a step of each, and write `report.json`, `report.md` and a
    picture into a new folder.

    Outcomes of finished fits are kept in `partial_path(out)` until the report is written; a second call with
    the same log, knobs and code goes on from there.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        methods: the rows of the table.
        config: the split, the ranker, the seeds.
        processes: fits at once, one thread each.
        on_progress: called with the share that is done.

    Returns:
        What `report.json` holds.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, or no method works on this log.
    """
    # matplotlib takes 0.4 s to import: neither the workers nor the other commands wait for it.
    from training.compare.objectives._pictures import draw

    refuse_existing(out)
    made = {"command": command(), "commit": commit(), "machine": machine()}
    world = open_world(data, config)
    outcomes, checkpoint = fit_all(
        jobs(methods, config),
        partial(prepare, data, config),
        data,
        out,
        config,
        processes=processes,
        on_progress=on_progress,
    )
    rows = assemble(methods, outcomes, config)
    report = {
        **made,
        "dataset": world.facts(),
        "config": config.model_dump(mode="json"),
        "costs": step_costs(world, methods, config),
        "rows": [row.as_json() for row in rows],
    }
    with atomic_folder(out) as folder:
        write_json(folder / "report.json", report)
        (folder / "report.md").write_text(markdown(rows, report))
        draw(folder, rows)
    checkpoint.remove()
    return report


def jobs(methods: Sequence[Method], config: CompareObjectivesConfig) -> list[Job]:
    """Every method with every seed, a seed after the other: whoever stops early has whole tables."""
    return [
        Job(method.name, seed)
        for seed in range(config.seed, config.seed + config.seeds)
        for method in methods
        if seed in config.seeds_of(ablation=method.ablation)
    ]
