"""The reference in a manifest is what the exported graphs answer on the rows that were fitted on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.histogram import counts, psi
from models.manifest import MANIFEST, Manifest
from models.runtime import Bundle
from models.store import BundleStore
from tests.conftest import run_command, run_ok
from training.data import load
from training.evaluation.predict import run_onnx
from training.export.drift_reference import reference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(smoke_bundles: Path) -> Bundle:
    store = BundleStore(smoke_bundles)
    return Bundle.load(store.path(store.current()))


def test_every_input_label_and_served_output_has_one(bundle: Bundle) -> None:
    manifest = bundle.manifest
    outputs = {"watch_time_s", "watch_ratio", *manifest.objectives}
    assert set(manifest.reference) == {
        "history_length",
        "event.duration_s",
        "event.watch_ratio",
        *(f"label.{name}" for name in manifest.labels),
        *(f"ranker.{name}" for name in outputs),
    }


def test_rows_that_were_fitted_on_are_where_the_reference_says(bundle: Bundle, synthetic_data: Path) -> None:
    """Found here another way: through the evaluation's own path, on all rows."""
    log = load(synthetic_data).interactions(bundle.vocabulary)
    rows = np.arange(len(log), dtype=np.int64)
    found = run_onnx(bundle, log, rows)
    ratio = log.watch_time_s / log.duration_s
    for name, values in (
        ("ranker.watch_time_s", found.watch_time_s),
        ("ranker.interest", found.objectives["interest"]),
        ("event.watch_ratio", ratio),
        ("event.duration_s", log.duration_s),
    ):
        histogram = bundle.manifest.reference[name]
        edges = np.array(histogram.edges)
        assert psi(histogram.shares, counts(edges, values)) < 0.01, name
        assert psi(histogram.shares, counts(edges, values * 3)) > 0.1, name


def test_histories_are_as_long_as_serving_would_have_them(bundle: Bundle) -> None:
    histogram = bundle.manifest.reference["history_length"]
    assert histogram.edges[-1] <= bundle.manifest.sequence_length
    assert histogram.edges[0] >= 0
    assert len(histogram.edges) > 2


def test_rows_after_the_watermark_are_left_out(bundle: Bundle, synthetic_data: Path) -> None:
    log = load(synthetic_data).interactions(bundle.vocabulary)
    middle = int(np.median(log.timestamp_ms))
    found = reference(bundle, log, until_ms=middle)
    assert {h.rows for h in found.values()} == {int((log.timestamp_ms <= middle).sum())}


def test_a_sample_is_as_large_as_asked_and_the_same_for_a_seed(bundle: Bundle, synthetic_data: Path) -> None:
    log = load(synthetic_data).interactions(bundle.vocabulary)
    until = bundle.manifest.training.watermark_ms
    first, again, other = (reference(bundle, log, until_ms=until, seed=seed, rows=500) for seed in (1, 1, 2))
    assert {h.rows for h in first.values()} == {500}
    assert first == again != other


def test_a_bundle_without_reference_still_loads(smoke_bundles: Path, tmp_path: Path) -> None:
    store = BundleStore(smoke_bundles)
    folder = store.path(store.current())
    old = Path(shutil.copytree(folder, tmp_path / folder.name))
    content = json.loads((folder / MANIFEST).read_text())
    del content["reference"]
    (old / MANIFEST).write_text(json.dumps(content))
    assert Manifest.read(old).reference == {}


def test_a_bundle_gets_its_reference_afterwards_and_is_another_version(
    bundle: Bundle, smoke_bundles: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    old = smoke_bundles / bundle.manifest.version
    run_ok("reference", old, "--data", synthetic_data, "--to", tmp_path)
    (folder,) = (tmp_path / version for version in BundleStore(tmp_path).versions())
    made = Manifest.read(folder)
    assert made.version != bundle.manifest.version
    assert made.reference == bundle.manifest.reference
    assert made.files == bundle.manifest.files


def test_the_data_of_another_run_is_refused_in_one_line(smoke_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run_command("prepare", "--dataset", "synthetic", "--out", other, "--seed", "7").returncode == 0
    result = run_command("export", smoke_run, "--to", tmp_path / "bundles", "--data", other)
    assert result.returncode == 2
    assert "the run was fitted on" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "bundles").exists()
