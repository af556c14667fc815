"""`compare variants`: hyperparameters picked by hand, several seeds each, on the early-stop days alone."""

# Shape suffixes: K fitted rows.

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from pydantic import ValidationError

from models.arrays import F32, I64
from models.errors import BadInput
from models.features import GROUP_COLUMNS
from models.runtime import Bundle
from models.vocabulary import UNKNOWN
from training.config import describe_first_error, merged
from training.encoders import RankerInputs
from training.evaluation.counterfactual_probe import make_probes, moved
from training.experiments.data import ExperimentData, dataset_summary
from training.experiments.engine import run_grid, write_report
from training.experiments.jobs import Job, Outcome, Progress, Result, Work
from training.experiments.results import summarize_seeds
from training.experiments.search import EVALUATED_ON, stop_loss
from training.experiments.watch_time.config import WatchTimeConfig
from training.experiments.watch_time.evaluator import describe_window
from training.experiments.watch_time.fits import fit_head
from training.experiments.watch_time.methods import FITS
from training.experiments.watch_time.windows import load_window
from training.provenance import provenance
from training.rankers import TwoObjectiveRanker
from training.staging import refuse_existing
from training.train.rankers import RankerEpoch, best_epoch_count

PARTS: Final = ("encoder", "loop", "lda")
"""Parts of a `WatchTimeConfig` that a variant may change."""


@dataclass(frozen=True)
class Variant:
    """One row of the record."""

    name: str
    method: str
    """Which of `FITS` with a head."""
    changes: dict[str, Any]
    """What differs from the experiment's config, nested as it is."""
    config: WatchTimeConfig

    @property
    def key(self) -> str:
        """What a finished fit is known by: what was fitted, not its name."""
        return json.dumps({"method": self.method, **self.changes}, sort_keys=True)


def read_variants(path: Path, config: WatchTimeConfig) -> list[Variant]:
    """Read variants from a file, or those of another record.

    The file is a JSON object: names to hyperparameters under `encoder`, `loop` and `lda`, nested as in
    `compare watch-time --config`, only those that change; `method` names another head than LDA's.

    Raises:
        BadInput: it is no such file, a head or hyperparameter does not exist, or a value breaks its rule.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as e:
        raise BadInput(f"{path} does not hold variants as JSON: {e}.") from e
    if isinstance(content, dict) and isinstance(content.get("rows"), list):
        content = {row["name"]: row["changes"] | {"method": row["method"]} for row in content["rows"]}
    if not isinstance(content, dict) or not content or not all(isinstance(v, dict) for v in content.values()):
        raise BadInput(
            f"{path} must hold names and their hyperparameters, such as "
            '{"rank 12": {"lda": {"rank": 12}}}.'
        )
    return [_variant(name, changes, config) for name, changes in content.items()]


def _variant(name: str, entry: Mapping[str, Any], config: WatchTimeConfig) -> Variant:
    changes = {part: value for part, value in entry.items() if part != "method"}
    method = entry.get("method", "lda")
    heads = [fit.name for fit in FITS.values() if fit.head is not None]
    if method not in heads:
        raise BadInput(f"{name!r} names the method {method!r}; there are {', '.join(heads)}.")
    unknown = sorted(set(changes) - set(PARTS))
    if unknown:
        raise BadInput(
            f"{name!r} changes {unknown[0]!r}; a variant changes {', '.join(PARTS)} or the method."
        )
    try:
        changed = merged(config, changes)
    except ValidationError as e:
        raise BadInput(describe_first_error(e, repr(name))) from e
    return Variant(name, method, changes, changed)


def run_variants(
    data: Path,
    out: Path,
    variants: Sequence[Variant],
    config: WatchTimeConfig,
    *,
    bundle: Path | None = None,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Fit every variant with every seed, and write `variants.json` into a new folder.

    All are fitted on the rows before the early-stop days and evaluated on those days after each epoch; the
    test days are not read. Finished fits are kept as those of `run_experiment`.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        variants: see `read_variants`.
        config: windows, seeds, and the hyperparameters that do not change.
        bundle: the version whose learned labels the interest head is fitted to; needed by variants with
            `loop.interest` above 0, which measure what that head costs the watch time.
        processes: fits at once, one thread each.
        on_progress: called with the finished share.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, labels are needed and there is no
            bundle, or every variant failed.
    """
    refuse_existing(out)
    interested = [variant.name for variant in variants if variant.config.loop.interest]
    if interested and bundle is None:
        raise BadInput(
            f"{interested[0]!r} has a `loop.interest` above 0: --bundle must name the labels' version."
        )
    origin = provenance()
    window = load_window(data, config)
    seeds = range(config.seed, config.seed + config.seeds)
    outcomes, checkpoint = run_grid(
        [Job(variant.key, seed) for variant in variants for seed in seeds],
        partial(_prepare, data, config, variants, bundle),
        data,
        out,
        config,
        processes=processes,
        on_progress=on_progress,
    )
    report = {
        **origin,
        "dataset": dataset_summary(window, partial(describe_window, window)) | EVALUATED_ON,
        "labels": None if bundle is None else bundle.name,
        "config": config.model_dump(mode="json"),
        "rows": [_row(v, [outcomes[Job(v.key, seed)] for seed in seeds]) for v in variants],
    }
    write_report(out, "variants", report)
    checkpoint.remove()
    return report


def _prepare(data: Path, config: WatchTimeConfig, variants: Sequence[Variant], bundle: Path | None) -> Work:
    log = load_window(data, config)
    label = None if bundle is None else _learned_labels(log, bundle)
    by_key = {variant.key: variant for variant in variants}

    def fit(job: Job, progress: Progress) -> Result:
        started, variant = time.monotonic(), by_key[job.method]
        ranker, epochs = fit_head(
            log,
            FITS[variant.method],
            variant.config,
            job.seed,
            progress,
            label=label if variant.config.loop.interest else None,
        )
        if not np.isfinite([_loss(epoch) for epoch in epochs]).all():
            raise BadInput(f"{variant.name} diverged with seed {job.seed}.")
        return {
            "curve": [epoch._asdict() for epoch in epochs],
            "probe": _probe(ranker, log, variant.config.loop.sequence_length),
            "seconds": time.monotonic() - started,
        }

    return fit


def _probe(ranker: TwoObjectiveRanker, data: ExperimentData, length: int) -> dict[str, Any] | None:
    """Return what a view that becomes a skip does to the seconds of other candidates; `None` where the
    early-stop days have no sequence that allows it."""
    try:
        probes = make_probes(data.log, data.stop, length)
    except BadInput:
        return None

    def seconds(x: RankerInputs) -> F32:
        with torch.no_grad():
            return ranker.eval().seconds(x).numpy()

    return {kind: change._asdict() for kind, change in moved(seconds, probes).items()}


def _learned_labels(data: ExperimentData, bundle: Path) -> F32:
    """Return `[K]` the learned label of each fitted row."""
    # A learned label reads no groups, and groups of this log's vocabulary are not the bundle's.
    groups = np.full((len(data.fitted), len(GROUP_COLUMNS)), UNKNOWN, np.int64)
    inputs: dict[str, F32 | I64] = {"feedback": data.log.feedback[data.fitted], "group_ids": groups}
    label_K: F32 = np.clip(Bundle.load(bundle).run_labeler(inputs, ("labelcraft",))["labelcraft"], 0.0, 1.0)
    return label_K


def _loss(epoch: RankerEpoch) -> float:
    return stop_loss(epoch.stop_mae_s or math.inf, epoch.stop_xauc or 0.0)


def _row(variant: Variant, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    results = [outcome.result for outcome in outcomes if outcome.refused is None]
    curves = [[RankerEpoch(**epoch) for epoch in result["curve"]] for result in results]
    best = [curve[best_epoch_count(curve) - 1] for curve in curves]
    return {
        "name": variant.name,
        "method": variant.method,
        "changes": variant.changes,
        "refused": next((outcome.refused for outcome in outcomes if outcome.refused is not None), None),
        "loss": float(np.mean([_loss(epoch) for epoch in best])) if best else None,
        "mae_s": summarize_seeds([epoch.stop_mae_s for epoch in best])._asdict(),
        "xauc": summarize_seeds([epoch.stop_xauc for epoch in best])._asdict(),
        "epochs": [epoch.epoch + 1 for epoch in best],
        "probe": [result["probe"] for result in results],
        "curves": [[[epoch.stop_mae_s, epoch.stop_xauc] for epoch in curve] for curve in curves],
    }
