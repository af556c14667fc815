"""A bundle answers as torch does, at every shape, and holds no row of a log."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from scipy import stats

from models.errors import SelfTestFailed
from models.manifest import INTERPOLATED, LABELER, MANIFEST, PERCENTILES, RANKER, Manifest
from models.runtime import Bundle
from models.store import BundleStore
from models.vocabulary import FIRST, UNKNOWN
from training.data import load
from training.evaluation.predict import run_onnx, run_torch
from training.export.synthetic_inputs import SyntheticInputs
from training.labels import heuristic_label_makers
from training.rankers import RankerOutputs
from training.train import run_folder as run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(smoke_bundles: Path) -> Path:
    store = BundleStore(smoke_bundles)
    return store.path(store.current())


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return Bundle.load(folder)


@pytest.mark.parametrize("steps", [0, 1, 50, 100])
@pytest.mark.parametrize("candidates", [0, 1, 2, 500])
def test_the_ranker_answers_as_torch_at_every_shape(
    bundle: Bundle, smoke_run: Path, candidates: int, steps: int
) -> None:
    saved = run.read(smoke_run, "release")
    random = np.random.default_rng([candidates, steps])
    made = SyntheticInputs(bundle.vocabulary, len(saved.profile_numbers), saved.profile_categories, random)
    request = made.request(1, candidates, steps)
    got = bundle.run_ranker(request, RankerOutputs._fields)
    with torch.no_grad():
        want = saved.fitted.ranker(*(torch.from_numpy(a) for a in request.values()))
    for name, tensor in want._asdict().items():
        near = INTERPOLATED.get(name, 1e-4)
        np.testing.assert_allclose(got[name], tensor.numpy(), rtol=near, atol=near, err_msg=name)
        assert np.isfinite(got[name]).all()


@pytest.mark.parametrize("n", [0, 1, 7, 1024])
def test_the_labeler_answers_as_torch_for_any_number_of_events(
    bundle: Bundle, smoke_run: Path, n: int
) -> None:
    saved = run.read(smoke_run, "release")
    made = SyntheticInputs(bundle.vocabulary, 0, saved.profile_categories, np.random.default_rng(n))
    exposures = made.exposures(saved.fitted.label_makers, n)
    got = bundle.run_labeler(exposures)
    with torch.no_grad():
        want = saved.fitted.label_makers(*(torch.from_numpy(a) for a in exposures.values()))
    assert tuple(got) == (*bundle.manifest.labels, PERCENTILES)
    for values, tensor in zip(got.values(), want, strict=True):
        # A percentile moves by more than its label does where labels lie close together.
        atol = INTERPOLATED[PERCENTILES] if values.ndim == 2 else 1e-5
        np.testing.assert_allclose(values, tensor.numpy(), atol=atol)
        assert ((values >= 0) & (values <= 1)).all()


def test_percentiles_are_shares_of_the_rows_that_the_bundle_was_fitted_on(
    bundle: Bundle, synthetic_data: Path
) -> None:
    log = load(synthetic_data).interactions(bundle.vocabulary)
    found = bundle.run_labeler({"feedback": log.feedback, "group_ids": log.groups})
    for column, name in enumerate(bundle.manifest.labels):
        label = found[name]
        share = (stats.rankdata(label) - 0.5) / len(label)  # ties share their mean rank
        off = np.abs(found[PERCENTILES][:, column] - share)
        assert off.mean() < 0.005, name
        if len(np.unique(label)) == 2:
            assert off.max() < 1e-6, name


def test_a_users_answer_does_not_depend_on_who_else_is_in_the_call(bundle: Bundle) -> None:
    made = SyntheticInputs(
        bundle.vocabulary,
        len(bundle.manifest.profile_numbers),
        bundle.manifest.profile_categories,
        np.random.default_rng(0),
    )
    request = made.request(3, 5, 8)
    together = bundle.run_ranker(request)
    for user in range(3):
        alone = bundle.run_ranker({name: a[user : user + 1] for name, a in request.items()})
        for name in together:
            near = INTERPOLATED.get(name, 1e-4)
            np.testing.assert_allclose(alone[name][0], together[name][user], rtol=near, atol=near)


def test_the_graph_and_the_run_predict_the_same_on_a_log(
    bundle: Bundle, smoke_run: Path, synthetic_data: Path
) -> None:
    saved = run.read(smoke_run, "release")
    log = load(synthetic_data).interactions(bundle.vocabulary)
    rows = np.arange(0, len(log), 97, dtype=np.int64)
    graph = run_onnx(bundle, log, rows)
    modules = run_torch(saved.fitted.ranker, log, rows, saved.config.loop.sequence_length)
    np.testing.assert_allclose(graph.watch_time_s, modules.watch_time_s, rtol=1e-4, atol=1e-4)
    assert list(graph.objectives) == list(modules.objectives)
    for name, got in graph.objectives.items():
        np.testing.assert_allclose(got, modules.objectives[name], rtol=1e-4, atol=1e-4)


def test_a_weight_that_was_changed_fails_the_self_test(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / RANKER)
    weights = [
        t
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT
        and len(t.dims) == 2
        # A mask is none: what is added to all logits of a softmax changes nothing.
        and np.isfinite(onnx.numpy_helper.to_array(t)).all()
    ]
    largest = max(weights, key=lambda t: len(t.raw_data))
    # Not added to: the same for all logits of a softmax changes nothing.
    changed = onnx.numpy_helper.to_array(largest) * np.float32(1.5)
    largest.CopyFrom(onnx.numpy_helper.from_array(changed, largest.name))
    damaged = Path(shutil.copytree(folder, tmp_path / folder.name))
    (damaged / RANKER).write_bytes(model.SerializeToString())
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][RANKER] = hashlib.sha256((damaged / RANKER).read_bytes()).hexdigest()
    (damaged / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SelfTestFailed, match=RANKER):
        Bundle.load(damaged)


def test_the_manifest_says_what_was_fitted_and_how_it_was_evaluated(
    folder: Path, synthetic_data: Path
) -> None:
    manifest = Manifest.read(folder)
    info = load(synthetic_data).info
    assert manifest.training.recipe == "smoke"
    assert manifest.training.watermark_ms == info.last_timestamp_ms
    assert manifest.evaluation is not None
    assert manifest.evaluation.fitted_before_ms <= manifest.evaluation.from_ms
    times = load(synthetic_data).log["timestamp_ms"].to_numpy()
    window = (times >= manifest.evaluation.from_ms) & (times < manifest.evaluation.to_ms)
    assert manifest.evaluation.metrics["rows"] == window.sum()
    assert manifest.labels[0] == "labelcraft"
    assert {"pcr", "d2q"} <= set(manifest.labels)


def test_no_path_of_a_machine_is_in_the_graphs(folder: Path) -> None:
    for name in (LABELER, RANKER):
        content = (folder / name).read_bytes()
        assert b"site-packages" not in content
        assert str(Path(__file__).parents[2]).encode() not in content


def test_only_standard_operators_are_used(folder: Path) -> None:
    for name in (LABELER, RANKER):
        model = onnx.load(folder / name)
        assert {o.domain for o in model.opset_import} == {""}
        assert not model.functions


def test_free_axes_are_named_as_in_the_manifest(folder: Path) -> None:
    manifest = Manifest.read(folder)
    for name, graph in ((LABELER, manifest.labeler), (RANKER, manifest.ranker)):
        model = onnx.load(folder / name)
        for value, spec in zip(
            (*model.graph.input, *model.graph.output), (*graph.inputs, *graph.outputs), strict=True
        ):
            dims = value.type.tensor_type.shape.dim
            assert value.name == spec.name
            assert tuple(d.dim_param or d.dim_value for d in dims) == spec.shape


def test_golden_rows_are_of_known_groups_and_of_none(folder: Path) -> None:
    groups = Manifest.read(folder).labeler.golden.inputs["group_ids"].array()
    for column in groups.T:
        assert (column == UNKNOWN).any()
        assert len(np.unique(column[column >= FIRST])) > 1


def test_every_rule_that_the_log_allows_is_served_and_the_manifest_says_which_need_a_profile(
    folder: Path, smoke_run: Path
) -> None:
    manifest = Manifest.read(folder)
    refused = run.read(smoke_run, "release").fitted.refused
    assert manifest.labels == (
        "labelcraft",
        *(m.name for m in heuristic_label_makers() if m.name not in refused),
    )
    assert not refused
    assert manifest.labels_by_user == ("dml_ev_u", "dml_lv_u", "rad")
