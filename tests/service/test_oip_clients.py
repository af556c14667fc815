"""The raw graphs, asked by an unchanged Triton client over real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.service import tiny_bundle
from tests.service.running import Service

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]

FEEDBACK = np.array([[6, 24, 0, 0, 0, 0, 0, 0], [48, 24, 1, 0, 0, 0, 0, 0]], np.float32)


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    opened = triton.InferenceServerClient(service.url.removeprefix("http://"))
    yield opened
    opened.close()


def slate(candidates: int) -> dict[str, Array]:
    """One user with no history and candidates of 20 s."""
    return {
        "sequence_ids": np.zeros((1, 0, 4), np.int64),
        "sequence_feedback": np.zeros((1, 0, 8), np.float32),
        "sequence_age_s": np.zeros((1, 0), np.float32),
        "candidate_ids": np.ones((1, candidates, 3), np.int64),
        "candidate_duration_s": np.full((1, candidates), np.nan, np.float32),
        "context_ids": np.array([[3]], np.int64),
        "profile": np.array([[np.nan]], np.float32),
        "profile_ids": np.array([[1]], np.int64),
    }


def inputs_of(arrays: dict[str, Array], *, binary: bool = True) -> list[Any]:
    """The client's inputs."""
    types = {"float32": "FP32", "int64": "INT64"}
    inputs = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), types[str(array.dtype)])
        inputs.append(tensor.set_data_from_numpy(array, binary_data=binary))
    return inputs


def test_server_and_models_say_what_they_are(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    for model in ("labeler", "ranker"):
        assert client.is_model_ready(model)
        assert client.is_model_ready(model, tiny_bundle.FIRST)
    metadata = client.get_model_metadata("labeler", tiny_bundle.FIRST)
    assert metadata["versions"] == [tiny_bundle.FIRST]
    assert metadata["inputs"] == [{"name": "feedback", "datatype": "FP32", "shape": [-1, 8]}]
    names = ["labelcraft", "pcr", "percentiles"]
    assert [output["name"] for output in metadata["outputs"]] == names


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_json_and_bytes_have_the_same_answer(client: Any, binary_in: bool, binary_out: bool) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("pcr", "labelcraft")]
    result = client.infer(
        "labeler", inputs_of({"feedback": FEEDBACK}, binary=binary_in), outputs=outputs, request_id="mine"
    )
    np.testing.assert_array_equal(result.as_numpy("labelcraft"), np.array([0.25, 1.0], np.float32))
    np.testing.assert_array_equal(result.as_numpy("pcr"), np.array([0.125, 1.0], np.float32))
    reply = result.get_response()
    assert (reply["id"], reply["model_name"], reply["model_version"]) == (
        "mine",
        "labeler",
        tiny_bundle.FIRST,
    )
    assert [output["name"] for output in reply["outputs"]] == ["pcr", "labelcraft"]


@pytest.mark.parametrize("candidates", [1, 7, 2000])
def test_the_ranker_answers_for_any_number_of_candidates(client: Any, candidates: int) -> None:
    result = client.infer("ranker", inputs_of(slate(candidates)), model_version=tiny_bundle.FIRST)
    ratio = result.as_numpy("watch_ratio")
    assert ratio.shape == (1, candidates)
    np.testing.assert_allclose(ratio, tiny_bundle.watch_ratio(), rtol=1e-6)
    assert result.as_numpy("anchor_weights").shape == (1, candidates, 3)


def test_no_rows_have_no_labels(client: Any) -> None:
    result = client.infer("labeler", inputs_of({"feedback": FEEDBACK[:0]}))
    assert result.as_numpy("labelcraft").shape == (0,)


def test_nan_survives_json_as_an_unknown_duration(client: Any) -> None:
    result = client.infer("ranker", inputs_of(slate(2), binary=False))
    np.testing.assert_allclose(result.as_numpy("watch_time_s"), 20 * tiny_bundle.watch_ratio(), rtol=1e-6)


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda c: c.infer("unknown", inputs_of({"feedback": FEEDBACK})), "labeler and ranker"),
        (lambda c: c.infer("labeler", inputs_of({"feedback": FEEDBACK}), model_version="1"), "is not loaded"),
        (lambda c: c.infer("labeler", inputs_of({"feedback": FEEDBACK[:, :7]})), "[N, 8]"),
        (lambda c: c.infer("labeler", inputs_of({"feedback": FEEDBACK.astype(np.int64)})), "is FP32"),
        (lambda c: c.infer("ranker", inputs_of({"feedback": FEEDBACK})), "no input 'feedback'"),
        (lambda c: c.infer("ranker", inputs_of(slate(2001))), "at most 2000"),
        (lambda c: c.get_model_metadata("ranker", "20990101-00000000"), "is not loaded"),
    ],
)
def test_a_refusal_reaches_the_client_as_its_own_error(
    client: Any, ask: Callable[[Any], object], reason: str
) -> None:
    with pytest.raises(InferenceServerException) as refused:
        ask(client)
    assert reason in str(refused.value.message())
    assert refused.value.status() in ("400", "404")
