"""`audit`: who is shown more than the log has, and who gets less, for whatever orders a window's rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import BadInput
from models.runtime import Bundle
from training.compare._jobs import Progress
from training.compare._report import write_json
from training.compare._run import fit_all
from training.compare.audit._bias import by_group, by_user
from training.compare.audit._fit import jobs, prepare, subjects
from training.compare.audit._markdown import markdown
from training.compare.audit._subjects import Subject, of_bundle, of_run, references
from training.compare.audit._world import AuditConfig, AuditWorld, open_audit
from training.provenance import command, commit, machine
from training.staging import atomic_folder, refuse_existing


def audit(
    data: Path,
    out: Path,
    config: AuditConfig,
    *,
    bundle: Bundle | None = None,
    runs: Sequence[Path] = (),
    labels: Sequence[str] | None = None,
    fits: Sequence[str] = (),
    allow_seen: bool = False,
    processes: int = 1,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Audit everything that is named on one window, and write `report.json`, `report.md` and pictures.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: a new folder.
        config: the window, the groups, and how what is fitted here is fitted.
        bundle: its score, its objectives and its labels.
        runs: folders of runs, the same of each one's fit before its test days; labels of the first where
            there is no bundle.
        labels: which label makers; `None` all of them.
        fits: recommenders to fit on the days before the window, see `_fit.names`.
        allow_seen: audit rows that weights have seen, and say so.
        processes: fits at once, one thread each.
        on_progress: told the share that is done.

    Returns:
        What `report.json` holds.

    Raises:
        BadInput: nothing is named, `out` exists, the log cannot be read or is too short, weights have seen
            the window, or nobody has more than k rows in it.
    """
    # matplotlib takes 0.4 s to import.
    from training.compare.audit._pictures import draw

    if bundle is None and not runs and not fits:
        raise BadInput("there is nothing to audit; name --bundle, --run or --fit.")
    refuse_existing(out)
    made = {"command": command(), "commit": commit(), "machine": machine()}
    world = open_audit(data, config)
    if np.unique(world.user, return_counts=True)[1].max() <= config.k:
        raise BadInput(
            f"nobody has more than k = {config.k} rows in the window; lower --k or take more --test-days."
        )
    audited = references(world, config.seed)
    if bundle is not None:
        audited += of_bundle(bundle, world, labels, config, allow_seen=allow_seen, on_progress=lambda _: None)
    for number, folder in enumerate(runs):
        mine: Sequence[str] | None = labels if bundle is None and number == 0 else ()
        audited += of_run(folder, world, mine, config, allow_seen=allow_seen)
    checkpoint = None
    if fits:
        outcomes, checkpoint = fit_all(
            jobs(fits, config),
            prepare(data, config),
            data,
            out,
            config,
            processes=processes,
            on_progress=on_progress,
        )
        audited += subjects(fits, outcomes, config)
    _refuse_twice(audited)
    report: dict[str, Any] = {
        **made,
        "window": world.facts(),
        "config": config.model_dump(mode="json"),
        "rows": [judged(subject, world, config) for subject in audited],
    }
    with atomic_folder(out) as folder:
        write_json(folder / "report.json", report)
        # From the file, whose figures are rounded: the report can be made from it again, to the letter.
        rounded = json.loads((folder / "report.json").read_text())
        (folder / "report.md").write_text(markdown(rounded))
        draw(folder, rounded)
    if checkpoint is not None:
        checkpoint.remove()
    on_progress(1.0)
    return report


def judged(subject: Subject, world: AuditWorld, config: AuditConfig) -> dict[str, Any]:
    """Every figure of one subject."""
    how = {"resamples": config.resamples, "seed": config.seed}
    videos = {
        name: by_group(world.user, subject.score, world.relevant, groups, config.k, **how).as_json()
        for name, groups in (("duration", world.duration_groups), ("popularity", world.popularity_groups))
    }
    users = by_user(world, subject.score, subject.seconds, subject.half, config.k, **how)
    return {
        "name": subject.name,
        "says": subject.says,
        "kind": subject.kind,
        **videos,
        "users": users.as_json(),
        "probe": {
            of: {kind: moved._asdict() for kind, moved in found.items()}
            for of, found in subject.probe.items()
        },
    }


def _refuse_twice(audited: Sequence[Subject]) -> None:
    names = [subject.name for subject in audited]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"two of what is audited are called {twice[0]!r}; name each once.")
