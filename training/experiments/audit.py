"""`audit`: exposure of groups of videos and utility of groups of users, for anything that orders rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import BadInput
from models.runtime import Bundle
from training.evaluation.fairness import Bootstrap, exposure_by_group, utility_by_user_group
from training.experiments.audit_data import AuditConfig, AuditData, load_audit_data
from training.experiments.audit_fits import fitted_systems, prepare_fits
from training.experiments.engine import run_grid, write_report
from training.experiments.jobs import Job, Progress
from training.experiments.ranked_systems import (
    RankedSystem,
    bundle_systems,
    reference_systems,
    run_systems,
)
from training.provenance import provenance
from training.staging import refuse_existing


def run_audit(
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
    """Audit everything that is named on one window, and write `report.json`, `report.md` and figures.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: a new folder.
        config: the window, the groups, and hyperparameters of the fits.
        bundle: its score, its objectives and its labels.
        runs: folders of runs, the same of each one's evaluation fit; labels of the first where there is no
            bundle.
        labels: which label makers; `None` all.
        fits: recommenders to fit on the days before the window, see `parse_fits`.
        allow_seen: audit rows that weights have seen, and say so.
        processes: fits at once, one thread each.
        on_progress: called with the finished share.

    Returns:
        The content of `report.json`.

    Raises:
        BadInput: nothing is named, `out` exists, the log cannot be read or is too short, weights have seen
            the window, or no user has more than k rows in it.
    """
    if bundle is None and not runs and not fits:
        raise BadInput("there is nothing to audit; name --bundle, --run or --fit.")
    refuse_existing(out)
    origin = provenance()
    window = load_audit_data(data, config)
    if np.unique(window.rows.user, return_counts=True)[1].max() <= config.k:
        raise BadInput(
            f"no user has more than k = {config.k} rows in the window; lower --k or take more --test-days."
        )
    systems = reference_systems(window, config.seed)
    if bundle is not None:
        systems += bundle_systems(bundle, window, labels, config, allow_seen=allow_seen)
    for index, folder in enumerate(runs):
        its_labels: Sequence[str] | None = labels if bundle is None and index == 0 else ()
        systems += run_systems(folder, window, its_labels, config, allow_seen=allow_seen)
    checkpoint = None
    if fits:
        outcomes, checkpoint = run_grid(
            [Job(name, config.seed) for name in fits],
            partial(prepare_fits, data, config),
            data,
            out,
            config,
            processes=processes,
            on_progress=on_progress,
        )
        systems += fitted_systems(fits, outcomes, config)
    names = [system.name for system in systems]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BadInput(f"two of the audited systems are called {repeated[0]!r}; name each once.")
    report: dict[str, Any] = {
        "kind": "audit",
        **origin,
        "window": window.summary(),
        "config": config.model_dump(mode="json"),
        "rows": [evaluate_system(system, window, config) for system in systems],
    }
    write_report(out, "report", report)
    if checkpoint is not None:
        checkpoint.remove()
    on_progress(1.0)
    return report


def evaluate_system(system: RankedSystem, data: AuditData, config: AuditConfig) -> dict[str, Any]:
    """Return the row of a ranked system."""
    bootstrap = Bootstrap(config.resamples, config.seed)
    groups = {"duration": data.duration_groups, "popularity": data.popularity_groups}
    return {
        "name": system.name,
        "says": system.description,
        "kind": system.kind,
        **{
            name: exposure_by_group(data.rows, system.score, videos, config.k, bootstrap)
            for name, videos in groups.items()
        },
        "users": utility_by_user_group(
            data.rows, system.score, system.predictions, data.user_groups, config.k, bootstrap
        ),
        "probe": system.probe,
    }
