"""Sets of knobs picked by hand, several seeds each, on the early-stop days alone, kept as a record."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from models.arrays import F32, I64
from models.errors import BadInput
from models.features import GROUP_COLUMNS
from models.runtime import Bundle
from models.vocabulary import UNKNOWN
from training.compare._jobs import Job, Outcome, Progress, Result, Work
from training.compare._report import markdown_table, summary, write_json
from training.compare._run import fit_all
from training.compare._stand import interval
from training.compare.watch_time._fit import fit_head
from training.compare.watch_time._methods import METHODS
from training.compare.watch_time._search import loss_of
from training.compare.watch_time._world import WatchTimeConfig, World, open_world
from training.encoders import RankerInputs
from training.evaluation.counterfactual_probe import KINDS, make_probes, moved
from training.provenance import command, commit, machine
from training.rankers import TwoObjectiveRanker
from training.staging import atomic_folder, refuse_existing
from training.train.rankers import RankerEpoch, best_epoch_count

_KNOBS = ("encoder", "loop", "lda")
_MILLI = 1000.0
PROBED = (*KINDS, "similar")
"""Columns of the probe's table, in seconds."""


@dataclass(frozen=True)
class Variant:
    """One line of the record."""

    name: str
    method: str
    """Which head: a name of `METHODS`, whose functions no process could be sent."""
    changes: dict[str, Any]
    """What differs from the comparison's knobs, nested as they are."""
    config: WatchTimeConfig

    @property
    def key(self) -> str:
        """What a finished fit is found again by: what was fitted, not what it is called."""
        return json.dumps({"method": self.method, **self.changes}, sort_keys=True)


def read_variants(path: Path, config: WatchTimeConfig) -> list[Variant]:
    """Variants from a file, or those of another record.

    The file is a JSON object: names to knobs under `encoder`, `loop` and `lda`, nested as in
    `compare watch-time --config`, only those that change; `method` names another head than LDA's.

    Raises:
        BadInput: it is no such file, a head or knob does not exist, or a value breaks its rule.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as e:
        raise BadInput(f"{path} does not hold variants as JSON: {e}.") from e
    if isinstance(found, dict) and isinstance(found.get("rows"), list):
        found = {row["name"]: row["changes"] | {"method": row["method"]} for row in found["rows"]}
    if not isinstance(found, dict) or not found or not all(isinstance(v, dict) for v in found.values()):
        raise BadInput(
            f'{path} must hold names and their knobs, such as {{"rank 12": {{"lda": {{"rank": 12}}}}}}.'
        )
    return [_variant(name, changes, config) for name, changes in found.items()]


def _variant(name: str, given: Mapping[str, Any], config: WatchTimeConfig) -> Variant:
    changes = {key: value for key, value in given.items() if key != "method"}
    heads = [method.name for method in METHODS if method.head is not None]
    head = given.get("method", "lda")
    if head not in heads:
        raise BadInput(f"{name!r} names the method {head!r}; there are {', '.join(heads)}.")
    if not set(changes) <= set(_KNOBS):
        unknown = min(set(changes) - set(_KNOBS))
        raise BadInput(f"{name!r} changes {unknown!r}; a variant changes {', '.join(_KNOBS)} or the method.")
    try:
        changed = WatchTimeConfig.model_validate(_merged(config.model_dump(mode="json"), changes))
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"`{where}` of {name!r}: {first['msg']}, found {first['input']!r}.") from e
    return Variant(name, head, changes, changed)


def _merged(knobs: Any, changes: Any) -> Any:
    if not isinstance(knobs, dict) or not isinstance(changes, Mapping):
        return changes
    return knobs | {name: _merged(knobs.get(name), value) for name, value in changes.items()}


def compare_variants(
    data: Path,
    out: Path,
    variants: Sequence[Variant],
    config: WatchTimeConfig,
    *,
    bundle: Path | None = None,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Fit every variant with every seed and write `variants.json` and `variants.md` into a new folder.

    All are fitted on what lies before the early-stop days and judged on those days after each epoch; the test
    days are not read. Finished fits are kept as those of `compare_watch_time` are, and more variants or seeds
    cost only what is new.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        variants: see `read_variants`.
        config: the split, the seeds, and the knobs that are not changed.
        bundle: the version whose learned labels the interest head is fitted to; needed by variants with
            `loop.interest` above 0, which says what that head costs the watch time.
        processes: fits at once, one thread each.
        on_progress: called with the share that is done.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, labels are wanted and there is no
            bundle, or every variant failed.
    """
    refuse_existing(out)
    wanting = [variant.name for variant in variants if variant.config.loop.interest]
    if wanting and bundle is None:
        raise BadInput(f"{wanting[0]!r} has a `loop.interest` above 0: --bundle must say whose labels.")
    made = {"command": command(), "commit": commit(), "machine": machine()}
    world = open_world(data, config)
    seeds = [config.seed + i for i in range(config.seeds)]
    outcomes, checkpoint = fit_all(
        [Job(variant.key, seed) for variant in variants for seed in seeds],
        partial(_prepare, data, config, variants, bundle),
        data,
        out,
        config,
        processes=processes,
        on_progress=on_progress,
    )
    rows = [_row(variant, [outcomes[Job(variant.key, seed)] for seed in seeds]) for variant in variants]
    report = {
        **made,
        "dataset": world.facts() | {"judged on": "the early-stop days"},
        "labels": None if bundle is None else bundle.name,
        "config": config.model_dump(mode="json"),
        "rows": rows,
    }
    with atomic_folder(out) as folder:
        write_json(folder / "variants.json", report)
        (folder / "variants.md").write_text(_markdown(report))
    checkpoint.remove()
    return report


def _prepare(data: Path, config: WatchTimeConfig, variants: Sequence[Variant], bundle: Path | None) -> Work:
    world = open_world(data, config)
    label = None if bundle is None else _labels(world, bundle)
    methods = {method.name: method for method in METHODS}
    by_key = {variant.key: variant for variant in variants}

    def fit(job: Job, progress: Progress) -> Result:
        began, variant = time.monotonic(), by_key[job.method]
        wanted = label if variant.config.loop.interest else None
        ranker, epochs = fit_head(
            world, methods[variant.method], variant.config, job.seed, progress, label=wanted
        )
        if not np.isfinite([loss_of(epoch) for epoch in epochs]).all():
            raise BadInput(f"{variant.name} diverged with seed {job.seed}.")
        return {
            "curve": [epoch._asdict() for epoch in epochs],
            "probe": _probed(ranker, world, variant.config.loop.sequence_length),
            "seconds": time.monotonic() - began,
        }

    return fit


def _probed(ranker: TwoObjectiveRanker, world: World, length: int) -> dict[str, Any] | None:
    """What a view that becomes a skip does to the seconds of other candidates; `None` where no history of
    the early-stop days allows it."""
    try:
        probes = make_probes(world.log, world.stop, length)
    except BadInput:
        return None

    def seconds(x: RankerInputs) -> F32:
        with torch.no_grad():
            return ranker.eval().seconds(x).numpy()

    return {kind: found._asdict() for kind, found in moved(seconds, probes).items()}


def _labels(world: World, bundle: Path) -> F32:
    """`[K]` the learned label of each row that is learned from."""
    labeler = Bundle.load(bundle)
    # What is learned reads no crowds, and crowds of this log's vocabulary are not the bundle's.
    crowds = np.full((len(world.known), len(GROUP_COLUMNS)), UNKNOWN, np.int64)
    inputs: dict[str, F32 | I64] = {"feedback": world.log.feedback[world.known], "group_ids": crowds}
    found: F32 = np.clip(labeler.run_labeler(inputs, ("labelcraft",))["labelcraft"], 0.0, 1.0)
    return found


def _row(variant: Variant, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    row = {"name": variant.name, "method": variant.method, "changes": variant.changes}
    refused = next((outcome.refused for outcome in outcomes if outcome.refused is not None), None)
    curves = [[RankerEpoch(**epoch) for epoch in o.result["curve"]] for o in outcomes if o.refused is None]
    kept = [curve[best_epoch_count(curve) - 1] for curve in curves]
    return {
        **row,
        "refused": refused,
        "loss": float(np.mean([loss_of(epoch) for epoch in kept])) if kept else None,
        "mae_s": summary([epoch.stop_mae_s for epoch in kept])._asdict(),
        "xauc": summary([epoch.stop_xauc for epoch in kept])._asdict(),
        "epochs": [epoch.epoch + 1 for epoch in kept],
        "probe": [outcome.result["probe"] for outcome in outcomes if outcome.refused is None],
        "curves": [[[epoch.stop_mae_s, epoch.stop_xauc] for epoch in curve] for curve in curves],
    }


def _markdown(report: Mapping[str, Any]) -> str:
    shown = [row for row in report["rows"] if row["refused"] is None]
    first = shown[0]["loss"]
    config = report["config"]
    body = [
        [
            f"`{row['name']}`",
            interval(row["mae_s"]["mean"], row["mae_s"]["std"], 3),
            interval(row["xauc"]["mean"], row["xauc"]["std"], 4),
            f"{_MILLI * (row['loss'] - first):+.2f}",
            ", ".join(map(str, row["epochs"])),
            _changed(row),
        ]
        for row in shown
    ]
    most = max(len(curve) for row in shown for curve in row["curves"])
    curves = [[f"`{row['name']}`", *(_after(row, epoch) for epoch in range(most))] for row in shown]
    refused = [f"* `{row['name']}`: {row['refused']}" for row in report["rows"] if row["refused"] is not None]
    head = ["variant", "MAE, s", "XAUC", "against the first", "epochs kept", "what is changed"]
    parts = [
        f"# Variants of LDA on {report['dataset']['dataset']}",
        f"`{report['command']}`",
        f"Commit `{report['commit']}`, {report['machine']}. Seeds {config['seed']} to "
        f"{config['seed'] + config['seeds'] - 1} of each. Fitted on what lies before the early-stop days, "
        "judged on those days; the test days were not read. *Against the first* is log(MAE / XAUC) less that "
        "of the first row, in thousandths: below 0 is better, and a thousandth is a tenth of a percent of "
        "either figure. `±` is the standard deviation over the seeds.",
        "\n".join(markdown_table(head, body, text=2)),
        "## After each epoch",
        "MAE and XAUC, means over the seeds that went so far.",
        "\n".join(markdown_table(["variant", *map(str, range(1, most + 1))], curves)),
        *_probe(shown),
        *(["## What could not be fitted", "\n".join(refused)] if refused else []),
    ]
    return "\n\n".join(parts) + "\n"


def _probe(shown: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each variant makes of a view that becomes a skip; nothing where the log allows no probe."""
    body = []
    for row in shown:
        known = [found for found in row["probe"] if found is not None]
        if known:
            cells = [[found[kind]["change"] for found in known if kind in found] for kind in PROBED]
            fell = [found["similar"]["fell"] for found in known if "similar" in found]
            figures = (interval(*(summary(cell)[:2] if cell else (None, None)), digits=3) for cell in cells)
            body.append([f"`{row['name']}`", *figures, f"{np.mean(fell):.0%}" if fell else "–"])
    if not body:
        return []
    return [
        "## A whole view that becomes a skip",
        "One step of a history of the early-stop days, watched to its end and none of the newest, was "
        "skipped instead: how many predicted seconds that takes from a candidate of its author, of its tag, "
        "and of neither. *Similar* is what it takes from the nearer of the first two more than from the "
        "unrelated one of the same request, and how often it does. A variant that understands a skip has the "
        "first two fall and the third hardly move.",
        "\n".join(
            markdown_table(["variant", "author", "tag", "unrelated", "similar", "similar falls"], body)
        ),
    ]


def _changed(row: Mapping[str, Any]) -> str:
    named = [
        f"{part}.{name}={value}" for part in _KNOBS for name, value in row["changes"].get(part, {}).items()
    ]
    if row["method"] != "lda":
        named.insert(0, f"method={row['method']}")
    return ", ".join(named) or "nothing"


def _after(row: Mapping[str, Any], epoch: int) -> str:
    found = [curve[epoch] for curve in row["curves"] if epoch < len(curve)]
    if not found:
        return "–"
    mae, xauc = np.mean(found, axis=0)
    return f"{mae:.3f} / {xauc:.4f}"
