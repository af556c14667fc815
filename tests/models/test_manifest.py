"""A manifest is read only if it is one, of these files, of this build, and does not contradict itself."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import BundleError, BundleNotFound, ContractMismatch, CorruptBundle, SelfTestFailed
from models.features import Array
from models.manifest import (
    LABELER,
    MANIFEST,
    MAX_BYTES,
    PERCENTILES,
    RANKER,
    VOCABULARY,
    GoldenRows,
    Manifest,
    Tensor,
)
from tests.bundle_parts import TRAINING
from tests.models import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path / tiny.VERSION)
    return tmp_path / tiny.VERSION


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the manifest as a text editor could."""
    content = json.loads((folder / MANIFEST).read_text())
    edit(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def _set(content: Any, path: str, value: object) -> None:
    *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
    for key in way:
        content = content[key]
    content[last] = value


def _add_percentiles(content: Any, shape: list[Any]) -> None:
    labeler = content["labeler"]
    spec = {"name": PERCENTILES, "dtype": "float32", "shape": shape, "unit": "probability"}
    labeler["outputs"].append(spec)
    labeler["golden"]["outputs"][PERCENTILES] = {"dtype": "float32", "shape": [0, 1], "data": []}


def refused(folder: Path, error: type[BundleError], match: str) -> None:
    with pytest.raises(error, match=match):
        Manifest.read(folder)


def test_what_was_written_is_read(folder: Path, tmp_path: Path) -> None:
    assert Manifest.read(folder) == tiny.write(tmp_path / "again")


# --- files


@pytest.mark.parametrize("name", [LABELER, RANKER, VOCABULARY])
@pytest.mark.parametrize("damage", ["truncated", "extended", "one bit", "empty", "another"])
def test_a_changed_file_is_refused_by_name(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    changed = {
        "truncated": content[:-1],
        "extended": content + b"\0",
        "one bit": bytes([content[0] ^ 1]) + content[1:],
        "empty": b"",
        "another": (folder / (VOCABULARY if name != VOCABULARY else LABELER)).read_bytes(),
    }[damage]
    path.write_bytes(changed)
    refused(folder, CorruptBundle, f"{name} has sha256 .* the manifest has")


@pytest.mark.parametrize("name", [LABELER, RANKER, VOCABULARY])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, CorruptBundle, f"{name} cannot be read: No such file")
    (folder / name).mkdir()
    refused(folder, CorruptBundle, f"{name} cannot be read: not a file")


@pytest.mark.parametrize("name", [LABELER, RANKER, VOCABULARY])
def test_a_file_without_a_checksum_is_refused(folder: Path, name: str) -> None:
    change(folder, lambda m: m["files"].pop(name))
    refused(folder, CorruptBundle, f"names no {name}")


@pytest.mark.parametrize("name", ["weights.bin", ".weights.bin"])
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_a_file_that_no_checksum_covers_is_refused(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(folder / name)
    refused(folder, CorruptBundle, f"{name} has no checksum in manifest.json")


@pytest.mark.parametrize("name", [MANIFEST, LABELER, VOCABULARY])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, CorruptBundle, f"{name} cannot be read: not a file")


def test_an_endless_manifest_is_not_read(folder: Path) -> None:
    with (folder / MANIFEST).open("ab") as file:
        file.truncate(MAX_BYTES + 1)
    refused(folder, CorruptBundle, f"cannot be read: longer than {MAX_BYTES} bytes")


@pytest.mark.parametrize(
    "name",
    ["../labeler.onnx", "/etc/passwd", "a/b", "..", ".", "", "a\0b", f"../{tiny.VERSION}/labeler.onnx"],
)
def test_no_file_outside_the_folder_is_opened(folder: Path, name: str) -> None:
    (folder.parent / "labeler.onnx").write_bytes((folder / LABELER).read_bytes())
    change(folder, lambda m: m["files"].update({name: m["files"][LABELER]}))
    refused(folder, CorruptBundle, "not a plain file name|not a file|has no checksum")


def test_a_version_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", BundleNotFound, "does not exist; name a bundle's folder")
    refused(tmp_path, BundleNotFound, "does not exist")


# --- the manifest itself


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"version": 1}']
)
def test_what_is_no_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    refused(folder, CorruptBundle, "is not a manifest of this build: ")


def test_a_manifest_cut_at_any_byte_is_refused(folder: Path) -> None:
    content = (folder / MANIFEST).read_bytes()
    for end in range(0, len(content) - 1, 97):
        (folder / MANIFEST).write_bytes(content[:end])
        refused(folder, CorruptBundle, "is not a manifest")


def test_a_manifest_that_cannot_be_opened_is_refused(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    refused(folder, CorruptBundle, "cannot be read: not a file")
    refused(folder / LABELER, CorruptBundle, "cannot be read: Not a directory")


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda m: m.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda m: m.update(comment="hello"), "comment: Extra inputs"),
        (lambda m: m["training"].update(note="x"), "training.note: Extra inputs"),
        (lambda m: m.pop("objectives"), "objectives: Field required"),
        (lambda m: m.update(version="20260101"), "version: String should match"),
        (lambda m: m.update(version=f"{tiny.VERSION}\n"), "version: String should match"),
        (lambda m: m.update(version="../../etc"), "version: String should match"),
        (lambda m: m.update(version="٢٠٢٦٠١٠١-0123abcd"), "version: String should match"),
        (lambda m: m["files"].update({LABELER: "0" * 63}), "files.labeler.onnx: String should match"),
        (lambda m: m.update(created_at="2026-01-01T00:00:00"), "created_at: .*timezone"),
        (lambda m: m.update(sequence_length=0), "sequence_length: Input should be greater"),
        *(
            (partial(_set, path=path, value=value), f"{path}.*: Input should be less than or equal to")
            for path, value in (
                ("sequence_length", 1_000_000_000),
                ("ranker.inputs.0.shape.2", 1_000_000_000),
                ("ranker.outputs.0.shape.1", 10**30),
                ("labeler.golden.inputs.feedback.shape.0", 10**9),
                ("labeler.golden.atol", 1.0),
                ("labeler.golden.rtol", math.inf),
                ("training.rows", 10**30),
                ("training.watermark_ms", 10**15),
                ("training.seed", 2**64),
            )
        ),
        (lambda m: m["weights"].update(interest=math.nan), "weights.interest: Input should be a finite"),
        (lambda m: m.update(labels=["other"]), "`labels` must be some of .'labelcraft'."),
        (lambda m: m.update(labels=[]), "`labels` must be some of"),
        (lambda m: _add_percentiles(m, ["N", 2]), "`percentiles` must have a column a label"),
        (lambda m: _add_percentiles(m, ["N"]), "`percentiles` must have a column a label"),
        (lambda m: m.update(labels_by_user=["other"]), "`labels_by_user` must be among"),
        (lambda m: m.update(objectives=["interest", "fame"]), "`objectives` must be some of"),
        (lambda m: m.update(weights={"fame": 1.0}), "`weights` must be some of"),
        (lambda m: m["labeler"]["golden"].update(outputs={}), "labeler: .*golden rows hold"),
        (lambda m: m["ranker"]["golden"]["inputs"].pop("candidate_ids"), "ranker: .*golden rows hold"),
        (lambda m: m["labeler"]["golden"].update(atol=0), "atol: Input should be greater"),
        (
            lambda m: m["labeler"]["golden"]["outputs"]["labelcraft"].update(shape=[3]),
            r"shape \(3,\) does not hold 2 values",
        ),
        (
            lambda m: m["labeler"]["golden"]["outputs"]["labelcraft"].update(shape=[-1]),
            "greater than or equal to 0",
        ),
        (
            lambda m: m["ranker"]["golden"]["inputs"]["candidate_ids"].update(data=[0.5] * 6),
            "int64 holds something else than whole numbers",
        ),
    ],
)
def test_a_manifest_that_is_wrong_says_where(
    folder: Path, edit: Callable[[dict[str, Any]], object], match: str
) -> None:
    change(folder, edit)
    refused(folder, CorruptBundle, match)


def test_another_column_order_is_another_contract(folder: Path) -> None:
    change(folder, lambda m: m.update(columns_digest="0123456789abcdef"))
    refused(folder, ContractMismatch, "was fitted on columns 0123456789abcdef, this build lays out")


def test_a_manifest_is_immutable(folder: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Manifest.read(folder).version = "20990101-00000000"  # type: ignore[misc]


# --- tensors


@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    seed=st.integers(0, 9),
    dtype=st.sampled_from(["float32", "int64"]),
)
def test_a_tensor_is_the_array_again_after_json(shape: tuple[int, ...], seed: int, dtype: str) -> None:
    array = (np.random.default_rng(seed).normal(size=shape) * 1e6).astype(dtype)
    again = Tensor.model_validate_json(Tensor.from_array(array).model_dump_json()).array()
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


def test_an_unknown_duration_survives_json() -> None:
    array = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    again = Tensor.model_validate_json(Tensor.from_array(array).model_dump_json()).array()
    np.testing.assert_array_equal(again, array)


def test_another_dtype_is_refused() -> None:
    with pytest.raises(ValidationError, match="dtype"):
        Tensor.from_array(np.zeros(2))


# --- golden rows


GOLDEN = GoldenRows(
    inputs={"x": Tensor.from_array(np.array([1, 2], np.float32))},
    outputs={"y": Tensor.from_array(np.array([10, -20], np.float32))},
    atol=0.01,
    rtol=0.001,
)


def answer(*values: float) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
    return lambda _: {"y": np.array(values, np.float32), "more": np.zeros(1, np.float32)}


def test_golden_rows_are_what_the_graph_is_asked() -> None:
    asked: list[Mapping[str, Array]] = []

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        asked.append(inputs)
        return answer(10, -20)(inputs)

    GOLDEN.check("g", run)
    np.testing.assert_array_equal(asked[0]["x"], np.array([1, 2], np.float32))


@pytest.mark.parametrize("values", [(10, -20), (10.019, -20), (9.981, -20), (10, -20.029), (10, -19.971)])
def test_within_tolerance_passes(values: tuple[float, float]) -> None:
    GOLDEN.check("g", answer(*values))


@pytest.mark.parametrize(
    "values", [(10.021, -20), (9.979, -20), (10, -20.031), (10, 20), (np.nan, -20), (10, np.inf)]
)
def test_beyond_tolerance_fails_and_so_does_nan(values: tuple[float, float]) -> None:
    with pytest.raises(SelfTestFailed, match="g: output 'y' is off by"):
        GOLDEN.check("g", answer(*values))


def test_a_missing_or_misshapen_output_fails() -> None:
    with pytest.raises(SelfTestFailed, match=r"output 'y' should have shape .* found no such output"):
        GOLDEN.check("g", lambda _: {})
    with pytest.raises(SelfTestFailed, match=r"output 'y' should have shape \(2,\), found shape \(3,\)"):
        GOLDEN.check("g", answer(10, -20, 0))


def test_a_graph_that_cannot_run_its_rows_fails_the_self_test() -> None:
    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        raise RuntimeError("Got invalid dimensions for input\nat node 3")

    with pytest.raises(
        SelfTestFailed, match=r"g: its golden rows cannot be run: Got invalid dimensions for input$"
    ):
        GOLDEN.check("g", run)


def test_a_manifest_names_the_ledger_only_where_one_was_honoured() -> None:
    assert not {"forgotten_until_ms", "forgetting"} & set(TRAINING.model_dump())
    later = TRAINING.model_copy(update={"forgotten_until_ms": 7})
    assert type(later).model_validate_json(later.model_dump_json()) == later
