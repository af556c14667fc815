"""A bundle is answered from only after both graphs were checked and have reproduced their golden rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.errors import BundleNotFound, ContractMismatch, CorruptBundle, SelfTestFailed
from models.features import Array
from models.manifest import LABELER, RANKER, VOCABULARY, Graph, Manifest, Tensor, TensorSpec
from models.runtime import Bundle, run_bound
from models.vocabulary import Vocabulary
from tests.models import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path / tiny.VERSION)
    return tmp_path / tiny.VERSION


def test_a_good_bundle_answers(folder: Path) -> None:
    bundle = Bundle.load(folder)
    feedback = np.array([[12, 30, 1, 0, 0, 0, 0, 0]] * 3, np.float32)
    np.testing.assert_allclose(
        bundle.run_labeler({"feedback": feedback})["labelcraft"], tiny.label(feedback, 0.0), rtol=1e-6
    )
    assert (bundle.manifest.version, bundle.provider) == (tiny.VERSION, "CPUExecutionProvider")
    assert bundle.vocabulary.index("video_id", "v3") == 4


@pytest.mark.parametrize("n", [0, 1, 2, 500])
def test_any_number_of_rows_and_candidates(folder: Path, n: int) -> None:
    bundle = Bundle.load(folder)
    assert bundle.run_labeler({"feedback": np.ones((n, 8), np.float32)})["labelcraft"].shape == (n,)
    request: dict[str, Array] = {
        "candidate_ids": np.ones((1, n, 3), np.int64),
        "candidate_duration_s": np.full((1, n), 30, np.float32),
    }
    every = bundle.run_ranker(request)
    np.testing.assert_allclose(every["watch_time_s"], np.full((1, n), 15, np.float32))
    assert list(bundle.run_ranker(request, ["interest"])) == ["interest"]


def test_a_bundle_cannot_be_changed_under_a_request(folder: Path) -> None:
    with pytest.raises(AttributeError):
        Bundle.load(folder).provider = "elsewhere"  # type: ignore[misc]


def test_a_missing_or_damaged_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound):
        Bundle.load(tmp_path / "nowhere")
    (folder / RANKER).write_bytes(b"")
    with pytest.raises(CorruptBundle, match="sha256"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", [LABELER, RANKER])
@pytest.mark.parametrize("cut", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"\x08" + b[5:]])
def test_bytes_that_are_no_graph_are_refused_even_with_the_right_checksum(
    folder: Path, name: str, cut: Callable[[bytes], bytes]
) -> None:
    (folder / name).write_bytes(cut((folder / name).read_bytes()))
    tiny.seal(folder, manifest_of(folder))
    with pytest.raises((CorruptBundle, ContractMismatch), match=name):
        Bundle.load(folder)


def test_a_vocabulary_that_is_none_or_another_is_refused(folder: Path) -> None:
    (folder / VOCABULARY).write_bytes(b"{")
    tiny.seal(folder, manifest_of(folder))
    with pytest.raises(CorruptBundle, match="cannot be read as a vocabulary"):
        Bundle.load(folder)
    (folder / VOCABULARY).write_bytes(Vocabulary(tiny.FIELDS.fields | {"tag": ["t1", "t2"]}).to_bytes())
    tiny.seal(folder, manifest_of(folder))
    with pytest.raises(ContractMismatch, match="not the one the graphs were fitted with"):
        Bundle.load(folder)


def test_a_vocabulary_without_a_field_that_requests_need_is_refused(folder: Path) -> None:
    fields = {name: ids for name, ids in tiny.FIELDS.fields.items() if name != "tab"}
    (folder / VOCABULARY).write_bytes(Vocabulary(fields).to_bytes())
    digest = Vocabulary(fields).digest()
    tiny.seal(folder, manifest_of(folder).model_copy(update={"vocabulary_digest": digest}))
    with pytest.raises(ContractMismatch, match="no field 'tab'"):
        Bundle.load(folder)


def test_a_declared_profile_category_needs_its_vocabulary(folder: Path) -> None:
    tiny.rewrite(folder, manifest_of(folder).model_copy(update={"profile_categories": ("age",)}))
    with pytest.raises(ContractMismatch, match=r"no field 'profile\.age'"):
        Bundle.load(folder)


def test_other_weights_than_those_that_answered_the_golden_rows_fail_the_self_test(
    folder: Path, tmp_path: Path
) -> None:
    tiny.write(tmp_path / "other", bias=0.01)
    (folder / LABELER).write_bytes((tmp_path / "other" / LABELER).read_bytes())
    tiny.seal(folder, manifest_of(folder))
    with pytest.raises(SelfTestFailed, match=r"labeler\.onnx: output 'labelcraft' is off by"):
        Bundle.load(folder)


def test_swapped_graphs_are_refused(folder: Path) -> None:
    labeler, ranker = (folder / LABELER).read_bytes(), (folder / RANKER).read_bytes()
    (folder / LABELER).write_bytes(ranker)
    (folder / RANKER).write_bytes(labeler)
    tiny.seal(folder, manifest_of(folder))
    with pytest.raises(ContractMismatch, match=r"labeler\.onnx: inputs are .* the manifest has"):
        Bundle.load(folder)


@pytest.mark.parametrize("graph", ["labeler", "ranker"])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_tensor_of_another_type_is_refused(folder: Path, graph: str, side: str) -> None:
    part: Graph = getattr(manifest_of(folder), graph)
    specs = tuple(
        TensorSpec(
            name=t.name, dtype="int64" if t.dtype == "float32" else "float32", shape=t.shape, unit=t.unit
        )
        for t in getattr(part, side)
    )
    changed = {graph: part.model_copy(update={side: specs})}
    tiny.rewrite(folder, manifest_of(folder).model_copy(update=changed))
    with pytest.raises(ContractMismatch, match=rf"{graph}\.onnx: {side} are .* the manifest has"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("side", "shape"), [("inputs", ("B", "N", 4)), ("inputs", ("B", "L", 3)), ("outputs", ("N",))]
)
def test_a_tensor_of_another_shape_is_refused(folder: Path, side: str, shape: tuple[int | str, ...]) -> None:
    content = manifest_of(folder).model_dump()
    content["ranker"][side][0]["shape"] = shape
    tiny.rewrite(folder, Manifest.model_validate(content))
    with pytest.raises(ContractMismatch, match=rf"ranker\.onnx: {side} are .* the manifest has"):
        Bundle.load(folder)


def test_weights_beside_a_graph_need_a_checksum_too(folder: Path) -> None:
    manifest, model = manifest_of(folder), onnx.load(folder / LABELER)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    content = weights.raw_data

    def move_weights(location: str) -> None:
        (folder / location).write_bytes(content)
        weights.raw_data = content
        onnx.external_data_helper.set_external_data(weights, location)
        weights.ClearField("raw_data")
        (folder / LABELER).write_bytes(model.SerializeToString())

    move_weights("w.bin")
    tiny.seal(folder, manifest)
    with pytest.raises(CorruptBundle, match=r"w\.bin has no checksum"):
        Bundle.load(folder)
    tiny.seal(folder, manifest.model_copy(update={"files": manifest.files | {"w.bin": ""}}))
    Bundle.load(folder)
    (folder / "w.bin").unlink()
    move_weights("../w.bin")
    tiny.seal(folder, manifest)
    with pytest.raises(CorruptBundle, match="cannot be loaded as an ONNX graph"):
        Bundle.load(folder)


@pytest.mark.parametrize(("graph", "output"), [("labeler", "labelcraft"), ("ranker", "watch_time_s")])
def test_each_graph_must_reproduce_its_own_golden_rows(folder: Path, graph: str, output: str) -> None:
    part: Graph = getattr(manifest_of(folder), graph)
    wrong = Tensor.from_array(part.golden.outputs[output].array() + np.float32(0.01))
    golden = part.golden.model_copy(update={"outputs": part.golden.outputs | {output: wrong}})
    changed = {graph: part.model_copy(update={"golden": golden})}
    tiny.rewrite(folder, manifest_of(folder).model_copy(update=changed))
    with pytest.raises(SelfTestFailed, match=rf"{graph}\.onnx: output '{output}' is off by"):
        Bundle.load(folder)


def test_golden_rows_that_do_not_fit_the_graph_fail_the_self_test(folder: Path) -> None:
    manifest = manifest_of(folder)
    golden = manifest.labeler.golden
    narrow = golden.inputs["feedback"].model_copy(update={"shape": (4, 4)})
    labeler = manifest.labeler.model_copy(
        update={"golden": golden.model_copy(update={"inputs": {"feedback": narrow}})}
    )
    tiny.rewrite(folder, manifest.model_copy(update={"labeler": labeler}))
    with pytest.raises(SelfTestFailed, match=r"labeler\.onnx: its golden rows cannot be run"):
        Bundle.load(folder)


def test_a_gpu_that_is_not_there_is_an_error_when_demanded_and_none_when_wished_for(folder: Path) -> None:
    if Bundle.load(folder, device="auto").provider != "CPUExecutionProvider":
        pytest.skip("this machine has a GPU that onnxruntime uses")
    with pytest.raises(ContractMismatch, match="`cuda` was asked for"):
        Bundle.load(folder, device="cuda")


def test_a_run_that_binds_its_arrays_gives_what_a_plain_one_gives(folder: Path) -> None:
    bundle = Bundle.load(folder)
    golden = bundle.manifest.ranker.golden
    inputs = {name: tensor.array() for name, tensor in golden.inputs.items()}
    wanted = tuple(reversed(golden.outputs))[:1]
    plain = bundle.run_ranker(inputs, wanted)
    bound = run_bound(bundle.ranker, inputs, wanted, bundle.runs)
    assert list(bound) == list(wanted)
    for name in wanted:
        np.testing.assert_array_equal(bound[name], plain[name])


def manifest_of(folder: Path) -> Manifest:
    """The manifest as it stands, whatever became of the files."""
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


@pytest.mark.slow
def test_onnxruntime_keeps_no_id_of_this_machine_and_sends_no_reports(tmp_path: Path) -> None:
    program = "import models.runtime as r; r.ort.get_available_providers()"
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY" and not k.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env | {"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "elemetry" not in done.stderr
    assert list(tmp_path.rglob("*")) == []
