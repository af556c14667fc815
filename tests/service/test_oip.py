"""The Open Inference Protocol, byte by byte: what does not fit is refused, and nothing makes a 500."""

from __future__ import annotations

import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.manifest import Manifest
from models.store import BundleStore
from service.adapters.open_inference.tensors import DATATYPES
from service.settings import Settings
from tests.service import tiny_bundle
from tests.service.exchanges import is_problem
from tests.service.memory_store import MemoryStore
from tests.service.running import Service, served

ROW = [6.0, 24.0, 0, 0, 0, 0, 0, 0]
PATH = "/v2/models/labeler/infer"


def tensor(**members: Any) -> dict[str, Any]:
    """A good input of the labeler, with other members; `None` leaves one out."""
    good = {"name": "feedback", "shape": [1, 8], "datatype": "FP32", "data": ROW} | members
    return {name: value for name, value in good.items() if value is not None}


def body(*inputs: Any, **members: Any) -> bytes:
    return json.dumps({"inputs": list(inputs) or [tensor()]} | members).encode()


def refused(reply: httpx2.Response, status: int = 400) -> bool:
    """A problem document whose `error` is what the protocol's clients read."""
    return is_problem(reply, status) and reply.json()["error"] == reply.json()["detail"]


@pytest.mark.parametrize("data", [ROW, [ROW], [[[x] for x in ROW]]])
def test_data_may_be_flat_or_nested(client: httpx2.Client, data: list[Any]) -> None:
    reply = client.post(PATH, content=body(tensor(data=data), id="7"))
    assert reply.json() == {
        "model_name": "labeler",
        "model_version": tiny_bundle.FIRST,
        "id": "7",
        "outputs": [
            {"name": "labelcraft", "shape": [1], "datatype": "FP32", "data": [0.25]},
            {"name": "pcr", "shape": [1], "datatype": "FP32", "data": [0.125]},
            {"name": "percentiles", "shape": [1, 2], "datatype": "FP32", "data": [0.0625, 0.015625]},
        ],
    }


def test_bytes_and_json_may_be_mixed_in_one_reply(client: httpx2.Client) -> None:
    outputs = [{"name": "pcr", "parameters": {"binary_data": False}}, {"name": "labelcraft"}]
    head = body(
        tensor(data=None, parameters={"binary_data_size": 32}),
        outputs=outputs,
        parameters={"binary_data_output": True},
    )
    content = head + struct.pack("<8f", *ROW)
    reply = client.post(PATH, content=content, headers={"Inference-Header-Content-Length": str(len(head))})
    length = int(reply.headers["inference-header-content-length"])
    assert reply.headers["content-type"] == "application/octet-stream"
    pcr, labelcraft = json.loads(reply.content[:length])["outputs"]
    assert pcr["data"] == [0.125]
    assert labelcraft["parameters"] == {"binary_data_size": 4}
    assert struct.unpack("<f", reply.content[length:]) == (0.25,)


def test_a_value_that_json_cannot_hold_is_null_and_exact_as_bytes(client: httpx2.Client) -> None:
    nothing = tensor(data=[0.0] * 8)  # 0 s of a video of 0 s
    (labelcraft, *_) = client.post(PATH, content=body(nothing)).json()["outputs"]
    assert labelcraft["data"] == [None]
    exact = client.post(PATH, content=body(nothing, parameters={"binary_data_output": True}))
    (value, *_) = struct.unpack("<4f", exact.content[int(exact.headers["inference-header-content-length"]) :])
    assert value != value


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "UTF-8"),
        (b"[" * 100_000, "not closed"),
        (b"[" * 100_000 + b"]" * 100_000, "object"),
        (body(tensor(), id="\ud800"), "surrogate"),
        (b'{"inputs": [' + b"[]," * 200_001 + b"0]}", "arrays and objects"),
        (b"{}", "inputs"),
        (b"[]", "object"),
        (body(tensor(name="x")), "no input 'x'"),
        (body(tensor(), tensor()), "more than once"),
        (b'{"inputs": []}', "is missing"),
        (body(tensor(datatype="FP64")), "FP32"),
        (body(tensor(shape=[8])), "[N, 8]"),
        (body(tensor(shape=[8, 1])), "[N, 8]"),
        (body(tensor(shape=[-1, 8])), "[N, 8]"),
        (body(tensor(shape=[2, 8])), "8 elements, its shape needs 16"),
        (body(tensor(shape=[10**30, 8])), "at most 10000"),
        (body(tensor(shape=[1 << 62, 8])), "at most 10000"),
        (body(tensor(data=[*ROW[:7], "0"])), "numbers only"),
        (body(tensor(data=[*ROW[:7], True])), "numbers only"),
        (body(tensor(data=[*ROW[:7], [0]])), "numbers only"),
        (body(tensor(data=[*ROW[:7], 10**400])), "too large"),
        (body(tensor(data=None)), "neither"),
        (body(tensor(parameters={"binary_data_size": 32})), "both"),
        (body(tensor(data=None, parameters={"binary_data_size": 32})), "holds 0 more"),
        (body(tensor(data=None, parameters={"binary_data_size": -32})), "number of bytes"),
        (body(tensor(data=None, parameters={"binary_data_size": "32"})), "number of bytes"),
        (body(tensor(data=None, parameters={"binary_data_size": True})), "number of bytes"),
        (body(tensor(data=None, parameters={"binary_data_size": 31})), "31 bytes, its shape needs 32"),
        (body(tensor(parameters={"shared_memory_region": "r"})), "not supported"),
        (body(outputs=[{"name": "nothing"}]), "no output 'nothing'"),
        (body(outputs=[{"name": "pcr", "parameters": {"classification": 2}}]), "not supported"),
        (body(outputs=[{"name": "pcr", "parameters": {"binary_data": 1}}]), "true or false"),
        (body(parameters={"binary_data_output": "yes"}), "true or false"),
    ],
)
def test_what_does_not_fit_is_a_400_that_says_why(client: httpx2.Client, content: bytes, reason: str) -> None:
    reply = client.post(PATH, content=content)
    assert refused(reply)
    assert reason in reply.json()["error"]


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "999999", "9" * 50, "", "٣"])
def test_a_header_length_that_is_none_is_refused(client: httpx2.Client, length: str) -> None:
    headers = [(b"Inference-Header-Content-Length", length.encode())]
    assert refused(client.post(PATH, content=body(), headers=headers))


def test_bytes_that_no_input_names_are_refused(client: httpx2.Client) -> None:
    head = body()
    reply = client.post(
        PATH, content=head + b"abcd", headers={"Inference-Header-Content-Length": str(len(head))}
    )
    assert refused(reply)
    assert "4 bytes behind the JSON" in reply.json()["error"]


def test_axes_of_one_name_are_of_one_size(client: httpx2.Client) -> None:
    names = {"sequence_ids": [1, 0, 4], "sequence_feedback": [1, 0, 8], "sequence_age_s": [2, 0]}
    inputs = [
        {"name": n, "shape": s, "datatype": "INT64" if "ids" in n else "FP32", "data": []}
        for n, s in names.items()
    ]
    rest = {
        "candidate_ids": [1, 1, 3], "candidate_duration_s": [1, 1], "context_ids": [1, 1],
        "profile": [1, 1], "profile_ids": [1, 1],
    }  # fmt: skip
    inputs += [{"name": n, "shape": s, "datatype": "INT64", "data": []} for n, s in rest.items()]
    reply = client.post("/v2/models/ranker/infer", content=body(*inputs))
    assert refused(reply)
    assert "B = 1" in reply.json()["error"]


def test_what_only_the_graph_can_refuse_is_a_400_too(tmp_path: Path) -> None:
    """The released ranker looks ids up in tables, which a row beyond their end has no place in."""
    released = BundleStore(Settings().bundle)
    graph = Manifest.read(released.path(released.current())).ranker
    sizes = {"B": 1, "N": 1, "L": 1, "H": 1}
    inputs = []
    for spec in graph.inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape]
        number = 10**9 if spec.name == "candidate_ids" else 1
        inputs.append(
            {
                "name": spec.name,
                "shape": shape,
                "datatype": DATATYPES[spec.dtype],
                "data": [number] * math.prod(shape),
            }
        )
    with served(Settings().bundle, MemoryStore(), tmp_path) as client:
        reply = client.post("/v2/models/ranker/infer", content=body(*inputs))
    assert refused(reply)
    assert "cannot compute" in reply.json()["error"]


def test_limits_are_those_of_a_slate_and_of_a_body(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_events=2, max_body_bytes=600) as client:
        assert client.post(PATH, content=body(tensor(shape=[2, 8], data=ROW * 2))).status_code == 200
        assert refused(client.post(PATH, content=body(tensor(shape=[3, 8], data=ROW * 3))))
        assert refused(client.post(PATH, content=b" " * 601), 413)
        assert refused(client.post(PATH, content=body(), headers={"content-encoding": "gzip"}), 415)


def test_only_the_version_that_answers_can_be_asked(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        for version, status in ((tiny_bundle.FIRST, 200), (tiny_bundle.SECOND, 404), ("nope", 404)):
            for path in ("", "/ready"):
                reply = client.get(f"/v2/models/ranker/versions/{version}{path}")
                assert reply.status_code == status
            reply = client.post(f"/v2/models/labeler/versions/{version}/infer", content=body())
            assert reply.status_code == status
            assert status == 200 or refused(reply, 404)


def test_after_a_change_of_version_the_new_one_answers_and_the_old_one_is_gone(
    bundles: Path, tmp_path: Path
) -> None:
    versions = tmp_path / "bundles"
    shutil.copytree(bundles, versions)
    with served(versions, MemoryStore(), tmp_path / "data") as client:
        of_first = f"/v2/models/labeler/versions/{tiny_bundle.FIRST}"
        assert client.post(f"{of_first}/infer", content=body()).status_code == 200
        client.post(f"/v1/models/{tiny_bundle.SECOND}:activate").raise_for_status()
        assert refused(client.post(f"{of_first}/infer", content=body()), 404)
        reply = client.post(PATH, content=body()).json()
        assert reply["model_version"] == tiny_bundle.SECOND
        assert reply["outputs"][0]["data"] == [0.1875]  # three quarters of the first one's label


def test_each_graph_asks_for_the_right_of_its_endpoint(bundles: Path, tmp_path: Path) -> None:
    keys = "labels:label,slates:rerank,reader:read"
    with served(bundles, MemoryStore(), tmp_path, api_keys=keys) as client:

        def status(key: str, method: str, path: str) -> int:
            reply = client.request(method, path, content=b"{}", headers={"authorization": f"Bearer {key}"})
            return reply.status_code

        assert status("labels", "POST", PATH) == 400
        assert status("slates", "POST", PATH) == 403
        assert status("slates", "POST", "/v2/models/ranker/infer") == 400
        assert status("reader", "POST", "/v2/models/ranker/infer") == 403
        assert status("stranger", "POST", "/v2/models/unknown/infer") == 401
        assert status("stranger", "POST", "/v2/models/ranker/versions/1/infer") == 401
        assert status("reader", "GET", "/v2/models/ranker") == 200
        assert refused(client.get("/v2/models/ranker"), 401)
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2/models/ranker/ready").status_code == 200


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["feedback", "candidate_ids", "profile"]) | st.text(max_size=5),
        "shape": st.lists(st.integers(-2, 9) | st.integers(), max_size=4) | st.just([1, 8]),
        "datatype": st.sampled_from(["FP32", "INT64", "BYTES"]),
    },
    optional={
        "data": st.lists(st.integers() | st.floats(), max_size=9) | JSONS,
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-1, 40) | JSONS) | JSONS,
    },
)
HEADS = (
    st.fixed_dictionaries(
        {"inputs": st.lists(TENSORS, max_size=3) | JSONS},
        optional={"id": JSONS, "outputs": JSONS, "parameters": JSONS},
    ).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
    | st.just(body(tensor(data=None, parameters={"binary_data_size": 32})))
)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["labeler", "ranker"])
def test_no_bytes_make_a_500(service: Service, model: str) -> None:
    with service.client() as client:

        @settings(max_examples=150, deadline=None, derandomize=True)
        @given(head=HEADS, behind=st.binary(max_size=48), off=st.none() | st.integers(-3, 3) | st.just(0))
        def no_500(head: bytes, behind: bytes, off: int | None) -> None:
            length = {} if off is None else {"Inference-Header-Content-Length": str(len(head) + off)}
            reply = client.post(f"/v2/models/{model}/infer", content=head + behind, headers=length)
            assert reply.status_code == 200 or refused(reply)

        no_500()
