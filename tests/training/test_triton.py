"""The released graphs in other engines: without anything of ours, by Triton's own idea of a configuration."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tritonclient
from google.protobuf import text_format

from models.errors import BadInput, CorruptBundle
from models.manifest import Manifest
from models.store import BundleStore
from tests.conftest import ROOT, run_command, run_ok
from training.export.triton import config, lay_out

pytestmark = pytest.mark.slow

PLAIN = """
import json, sys
for ours in ("models", "service", "training"):
    sys.modules[ours] = None  # importing one of them fails
import numpy as np
import onnxruntime
repository, name = sys.argv[1:]
golden = json.load(open(f"{repository}/manifest.json"))[name]["golden"]
array = lambda t: np.array(t["data"], t["dtype"]).reshape(t["shape"])
file = f"{repository}/{name}/1/model.onnx"
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
answers = dict(zip(names, session.run(names, {k: array(t) for k, t in golden["inputs"].items()})))
assert set(answers) == set(golden["outputs"]) and answers
for key, want in golden["outputs"].items():
    near = {"atol": golden["atol"], "rtol": golden["rtol"]}
    np.testing.assert_allclose(answers[key], array(want), **near, err_msg=key)
tensors = lambda specs: {spec.name: [spec.type, spec.shape] for spec in specs}
print(json.dumps({"input": tensors(session.get_inputs()), "output": tensors(session.get_outputs())}))
"""
TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


@pytest.fixture(scope="module")
def bundle() -> Path:
    store = BundleStore(ROOT / "models" / "bundles")
    return store.path(store.current())


@pytest.fixture(scope="module")
def repository(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("triton") / "repository"
    run_ok("export", bundle, "--layout", "triton", "--to", to)
    return to


@pytest.fixture(scope="module")
def triton() -> ModuleType:
    """Triton's own messages. Their package's door wants gRPC, which reading a file does not need."""
    file = Path(tritonclient.__path__[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def version_of(repository: Path) -> str:
    return str(json.loads((repository / "manifest.json").read_text())["version"])


@pytest.mark.parametrize("name", ["labeler", "ranker"])
def test_a_graph_answers_its_golden_rows_in_plain_onnxruntime_and_is_what_its_configuration_says(
    repository: Path, triton: ModuleType, tmp_path: Path, name: str
) -> None:
    plain = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, str(repository), name],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert plain.returncode == 0, plain.stderr
    graph: dict[str, dict[str, tuple[str, list[Any]]]] = json.loads(plain.stdout)
    parsed = text_format.Parse((repository / name / "config.pbtxt").read_text(), triton.ModelConfig())
    assert (parsed.name, parsed.backend, parsed.max_batch_size) == (name, "onnxruntime", 0)
    assert parsed.parameters["reelrank_version"].string_value == version_of(repository)
    for kind in ("input", "output"):
        said = {t.name: (triton.DataType.Name(t.data_type), list(t.dims)) for t in getattr(parsed, kind)}
        assert said == {
            tensor: (TYPES[dtype], [axis if isinstance(axis, int) else -1 for axis in shape])
            for tensor, (dtype, shape) in graph[kind].items()
        }


def test_the_graphs_are_the_same_bytes(repository: Path, bundle: Path) -> None:
    for name in ("labeler", "ranker"):
        assert (repository / name / "1" / "model.onnx").read_bytes() == (bundle / f"{name}.onnx").read_bytes()
    assert sorted(path.name for path in repository.iterdir()) == [
        "labeler",
        "manifest.json",
        "ranker",
        "vocabulary.json",
    ]


def test_an_axis_without_columns_is_free_for_triton(bundle: Path, triton: ModuleType) -> None:
    """A data set without profiles; Triton refuses a size of 0."""
    graph = Manifest.read(bundle).ranker
    inputs = [
        spec.model_copy(update={"shape": ("B", 0)}) if spec.name == "profile" else spec
        for spec in graph.inputs
    ]
    parsed = text_format.Parse(
        config("ranker", graph.model_copy(update={"inputs": tuple(inputs)}), "v"), triton.ModelConfig()
    )
    assert [list(t.dims) for t in parsed.input if t.name == "profile"] == [[-1, -1]]


def test_another_layout_is_refused_in_one_line(bundle: Path) -> None:
    refused = run_command("export", bundle, "--layout", "tritonn")
    assert refused.returncode == 2
    assert "--layout must be bundle or triton" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_what_is_there_is_not_written_over(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        lay_out(bundle, bundle)
    with pytest.raises(BadInput, match="cannot write beside"):
        lay_out(bundle, Path("/proc/nope/x"))


def test_a_damaged_bundle_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / bundle.name
    broken.mkdir()
    for file in bundle.iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: -1 if file.name == "ranker.onnx" else None])
    with pytest.raises(CorruptBundle, match=r"ranker\.onnx"):
        lay_out(broken, tmp_path / "made")
    assert list(tmp_path.iterdir()) == [broken]
