"""A published version written once more: another graph, the same weights and answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.errors import BadInput
from models.manifest import OBJECTIVES
from models.runtime import Bundle
from tests.service import tiny_bundle
from training.export.ranker_tail import rewrite
from training.export.run import export_again

NAMES = ["watch_time_s", "interest", OBJECTIVES, "watch_time", "quantiles_s"]


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with one output an objective."""
    return tiny_bundle.write(tmp_path_factory.mktemp("former") / tiny_bundle.FIRST)


@pytest.fixture(scope="module")
def rewritten(former: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_again(former, tmp_path_factory.mktemp("rewritten"))


def test_the_objectives_become_one_output_and_all_else_stays(former: Path, rewritten: Path) -> None:
    before, after = Bundle.load(former), Bundle.load(rewritten)
    assert after.ranker_outputs == before.ranker_outputs - {"watch_time", "interest"} | {OBJECTIVES}
    changed = {"version", "created_at", "files", "ranker"}
    assert after.manifest.model_dump(exclude=changed) == before.manifest.model_dump(exclude=changed)
    assert after.manifest.version == rewritten.name != before.manifest.version
    assert after.manifest.files["labeler.onnx"] == before.manifest.files["labeler.onnx"]


def test_both_answer_every_name_alike(former: Path, rewritten: Path) -> None:
    before, after = Bundle.load(former), Bundle.load(rewritten)
    request = {name: tensor.array() for name, tensor in before.manifest.ranker.golden.inputs.items()}
    got, want = after.run_ranker(request, NAMES), before.run_ranker(request, NAMES)
    assert list(got) == list(want) == NAMES
    for name in NAMES:
        assert got[name].shape == want[name].shape
        np.testing.assert_allclose(got[name], want[name], rtol=1e-6, err_msg=name)
    for column, name in enumerate(before.manifest.objectives):
        np.testing.assert_array_equal(want[OBJECTIVES][..., column], before.run_ranker(request)[name])


def test_what_is_exported_so_already_is_refused(rewritten: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to change"):
        export_again(rewritten, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_experts_in_another_form_are_refused(former: Path) -> None:
    model = onnx.load(former / "ranker.onnx")
    for name in ("experts.gate.weight", "experts.own.weight"):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), name))
        model.graph.node.append(onnx.helper.make_node("Gemm", ["profile", name], [f"{name}.linear"]))
    with pytest.raises(RuntimeError, match="experts are exported in another way"):
        rewrite(model, ["watch_time", "interest"])
