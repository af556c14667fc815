"""What there is to be sent: every operation of the description with its own examples, to be broken."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

Json = dict[str, Any]

VALUES: Final = {"user_id": "u1", "version": "20260101-00000001"}
"""Values of required parameters for which the description lists no names."""


@dataclass(frozen=True)
class Target:
    """One good request."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def targets(document: Json) -> list[Target]:
    """A target for every operation without a body, and for every example of those with one."""
    found = [_binary()]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", ())
            whole = path.format(**{p["name"]: _value(p) for p in parameters})
            query = urlencode(
                {p["name"]: _value(p) for p in parameters if p["in"] == "query" and p.get("required")}
            )
            whole = f"{whole}?{query}" if query else whole
            content = operation.get("requestBody", {}).get("content", {})
            bodies = [(kind, body) for kind, media in content.items() for body in _bodies(kind, media)]
            for kind, body in bodies or [("", b"")]:
                headers = (("Content-Type", kind),) if kind else ()
                found.append(Target(method.upper(), whole, headers, body))
    return found


def _value(parameter: Json) -> str:
    schema = parameter["schema"]
    return str(schema["enum"][0]) if "enum" in schema else VALUES.get(parameter["name"], "x")


def _bodies(kind: str, media: Json) -> list[bytes]:
    values = [example["value"] for example in media.get("examples", {}).values()]
    if kind == "application/x-ndjson":
        return [b"".join(json.dumps(line).encode() + b"\n" for line in media["example"])]
    return [json.dumps(value).encode() for value in values]


def _binary() -> Target:
    """Tensors as bytes behind the JSON, which no example can hold."""
    tensor = {"name": "feedback", "shape": [2, 8], "datatype": "FP32", "parameters": {"binary_data_size": 64}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = (("Inference-Header-Content-Length", str(len(head))),)
    return Target("POST", "/v2/models/labeler/infer", length, head + struct.pack("<16f", *range(16)))
