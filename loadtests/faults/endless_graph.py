"""A version whose ranker never ends: an output of it goes round in a loop. Written without the onnx package.

Bytes appended to a protobuf message are merged into it: so the nodes below become nodes of the graph.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Final

from models.manifest import MANIFEST, Manifest

BOOL: Final = 9
FLOAT: Final = 1
INT64: Final = 7


def write_endless(source: Path, target: Path) -> None:
    """Copy a version's folder under another name, with a ranker that loads and never answers."""
    shutil.copytree(source, target)
    graph = target / "ranker.onnx"
    before = graph.read_bytes()
    output = Manifest.read(source).ranker.outputs[0].name.encode()
    looped = b"0" * len(output)  # what the graph's own node gives; no length before it changes
    # Nodes come first in a file: the last occurrence is the name among the graph's outputs.
    name = _field(1, output)
    after = before[: before.rindex(name)].replace(output, looped) + before[before.rindex(name) :]
    after += _field(7, _loop(looped, output))
    graph.write_bytes(after)
    manifest = (target / MANIFEST).read_text().replace(source.name, target.name)
    manifest = manifest.replace(hashlib.sha256(before).hexdigest(), hashlib.sha256(after).hexdigest())
    (target / MANIFEST).write_text(json.dumps(json.loads(manifest)))


def _loop(value: bytes, output: bytes) -> bytes:
    """The parts of a graph: a constant and a loop that has it for its condition, without a limit."""
    true = _field(1, b"value") + _field(5, _integer(2, BOOL) + _field(9, b"\x01")) + _integer(20, 4)
    body = b"".join(
        (
            _field(1, _node("Identity", [b"go_in"], [b"go_out"])),
            _field(1, _node("Identity", [b"value_in"], [b"value_out"])),
            _field(2, b"body"),
            *(
                _field(11, _value(*each))
                for each in ((b"turn", INT64), (b"go_in", BOOL), (b"value_in", FLOAT))
            ),
            *(_field(12, _value(*each)) for each in ((b"go_out", BOOL), (b"value_out", FLOAT))),
        )
    )
    attribute = _field(1, b"body") + _field(6, body) + _integer(20, 5)
    constant = _node("Constant", [], [b"go"], true)
    return _field(1, constant) + _field(1, _node("Loop", [b"", b"go", value], [output], attribute))


def _node(kind: str, inputs: list[bytes], outputs: list[bytes], attribute: bytes = b"") -> bytes:
    parts = [_field(1, name) for name in inputs] + [_field(2, name) for name in outputs]
    return b"".join(parts) + _field(4, kind.encode()) + (_field(5, attribute) if attribute else b"")


def _value(name: bytes, kind: int) -> bytes:
    shape = b"" if kind == FLOAT else _field(2, b"")  # the others are scalars
    return _field(1, name) + _field(2, _field(1, _integer(1, kind) + shape))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
