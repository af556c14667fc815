"""Export one of a run's two fits, or a published version once more."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from models.errors import BadInput
from models.histogram import Histogram
from models.manifest import MANIFEST, OBJECTIVES, RANKER, Graph
from models.runtime import Bundle
from models.store import BundleStore
from training.data import load
from training.export.bundle import (
    CANDIDATES,
    STEPS,
    checksums,
    compare,
    export,
    golden_rows,
    join_objectives,
    ranker_outputs,
    version_name,
)
from training.export.drift_reference import reference, same_log
from training.export.learned_gate import check_learned
from training.export.ranker_tail import rewrite
from training.export.synthetic_inputs import SyntheticInputs
from training.train import run_folder

SAME: Final = 3e-5
"""Largest difference of a version that is exported again, relative to 1 + |value|. Objectives differ by 3e-7,
seconds by 2e-6, and the quantiles, which are interpolated, by 1e-5."""

WHICH: Final[Mapping[str, run_folder.Which]] = {
    "final": "release",
    "release": "release",
    "evaluation": "evaluation",
    "judged": "evaluation",
}
"""Values of `--which`, older names among them."""


def export_run(
    folder: Path, which: str, to: Path, data: Path | None, *, allow_unlearned: bool = False
) -> Path:
    """Write a run's fit as one version of the bundle into `to`.

    Args:
        folder: what `fit` wrote.
        which: a key of `WHICH`.
        to: the folder of versions.
        data: what the run was fitted on: the manifest then holds histograms to measure drift by.
        allow_unlearned: export labels that were not shown to be learned, see `check_learned`.

    Raises:
        BadInput: there is no such fit, `folder` is not a run, `data` is not what it was fitted on, or the
            labels were not shown to be learned.
    """
    if which not in WHICH:
        raise BadInput(f"--which must be final or evaluation, found {which!r}.")
    saved = run_folder.read(folder, WHICH[which])
    fitted = saved.fitted
    learned = check_learned(fitted.learned_labels, allow=allow_unlearned)
    log = None if data is None else same_log(load(data), saved.training).interactions(fitted.vocabulary)

    def histograms(bundle: Bundle) -> Mapping[str, Histogram]:
        if log is None:
            return {}
        return reference(bundle, log, until_ms=saved.watermark_ms, seed=saved.config.seed)

    return export(
        fitted.label_makers,
        fitted.ranker,
        fitted.vocabulary,
        to,
        training=saved.training.model_copy(update={"watermark_ms": saved.watermark_ms}),
        weights=fitted.weights,
        sequence_length=saved.config.loop.sequence_length,
        profile_numbers=saved.profile_numbers,
        profile_categories=saved.profile_categories,
        default_tab=saved.default_tab,
        learned_labels=learned,
        evaluation=saved.evaluation,
        reference=None if log is None else histograms,
    )


def export_again(folder: Path, to: Path) -> Path:
    """Write a version once more as rankers are exported now: the same weights and answers, another version.

    Its answers are compared with the former ones at every shape of `CANDIDATES` x `STEPS`. It keeps the
    golden rows, which the torch modules answered, and the distributions of `reference`.

    Args:
        folder: a version's folder, of a former export.
        to: the folder of versions.

    Raises:
        BundleError: the version in `folder` cannot be used.
        BadInput: it is of this export already, or this version is there already.
        RuntimeError: an answer differs by more than `SAME`.
    """
    former = Bundle.load(folder)
    manifest, now = former.manifest, datetime.now(UTC)
    if OBJECTIVES in former.ranker_outputs:
        raise BadInput(f"{manifest.version} is exported as it would be now; there is nothing to change.")
    golden = manifest.ranker.golden
    predictions = join_objectives({n: t.array() for n, t in golden.outputs.items()}, manifest.objectives)
    request = {name: tensor.array() for name, tensor in golden.inputs.items()}
    with tempfile.TemporaryDirectory(prefix="reelrank-export-") as scratch:
        staging = Path(shutil.copytree(folder, Path(scratch) / "bundle"))
        onnx.save(rewrite(onnx.load(folder / RANKER), manifest.objectives), staging / RANKER)
        files = checksums(staging, manifest.files)
        ranker = Graph(
            inputs=manifest.ranker.inputs,
            outputs=ranker_outputs(predictions),
            golden=golden_rows(request, predictions),
        )
        version = version_name(now, "".join(files.values()) + manifest.version)
        again = manifest.model_copy(
            update={"version": version, "created_at": now, "files": files, "ranker": ranker}
        )
        (staging / MANIFEST).write_text(again.model_dump_json(indent=1) + "\n")
        bundle = Bundle.load(staging)
        rows = SyntheticInputs(
            bundle.vocabulary,
            len(manifest.profile_numbers),
            manifest.profile_categories,
            np.random.default_rng(0),
        )
        for n, steps in product(CANDIDATES, STEPS):
            asked = rows.request(1, n, steps)
            compare(asked, bundle.run_ranker(asked), former.run_ranker(asked, list(predictions)), SAME)
        store = BundleStore(to)
        return store.path(store.publish(staging))
