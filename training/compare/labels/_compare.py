"""`compare labels`: every label maker on one log, judged by the same recommender, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from training.compare._jobs import Job, Progress
from training.compare._report import write_json
from training.compare._run import fit_all
from training.compare.labels._assemble import assemble
from training.compare.labels._fit import prepare
from training.compare.labels._markdown import markdown
from training.compare.labels._methods import Method
from training.compare.labels._world import CompareConfig, open_world
from training.provenance import command, commit, machine
from training.staging import atomic_folder, refuse_existing


def compare_labels(
    data: Path,
    out: Path,
    methods: Sequence[Method],
    config: CompareConfig,
    *,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Fit every method with every seed, and write `report.json`, `report.md` and pictures into a new folder.

    Outcomes of finished fits are kept in `partial_path(out)` until the report is written; a second call with
    the same log, knobs and code goes on from there, also with more methods or seeds.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        methods: the rows of the table.
        config: the split, the recommender, the seeds.
        processes: fits at once, one thread each.
        on_progress: called with the share that is done.

    Returns:
        What `report.json` holds.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, nobody in the test window can be
            judged, or no method works on this log. One that does not is a row that says so.
    """
    # matplotlib takes 0.4 s to import: neither the workers nor the other commands wait for it.
    from training.compare.labels._draw import draw, surfaces

    refuse_existing(out)
    # Now: a long run may see the next commit.
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
    findings = assemble(world, methods, outcomes, config)
    facts = world.facts()
    report = {
        **made,
        "dataset": facts,
        "config": config.model_dump(mode="json"),
        "notes": list(world.notes),
        **findings.as_json(),
    }
    with atomic_folder(out) as folder:
        write_json(folder / "report.json", report)
        (folder / "report.md").write_text(markdown(findings, facts, config, world.notes, made))
        draw(folder, findings, surfaces(methods, outcomes))
    checkpoint.remove()
    return report


def jobs(methods: Sequence[Method], config: CompareConfig) -> list[Job]:
    """Every method with every seed, those that learn labels first: they take longest."""
    ordered = sorted(methods, key=lambda method: not method.learned)
    return [Job(method.name, config.seed + i) for method in ordered for i in range(config.seeds)]
