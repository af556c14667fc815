"""How many files a request passes through from its endpoint to the bytes of its reply.

A stay is a run of consecutive calls into functions of one file; a return is a stay in a file that the chain
has left before. Counted are the files of `service` and `models` without
* the layers around the path: middleware, keys, admission, metrics, shadow, traces, and the store,
* what only reads a value: properties, operators, and the classes `Candidates`, `Exposures`, `Vocabulary`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from service.app import create_app, open_services
from service.settings import Settings
from tests.conftest import ROOT
from tests.service.memory_store import MemoryStore
from tests.service.running import DEADLINE_MS, event

LAYERS = ("http/request_context", "http/fast_path", "http/auth", "pipeline/shadow", "pipeline/metered")
"""These call the path."""
OUTSIDE = ("overload/", "telemetry/", "state/", "inference/serving_set", "prefetch", "periodic")
"""The path calls these."""
VALUES = ("Candidates.", "Exposures.", "Vocabulary.")

PATHS = {
    "/rerank": (
        {"user_id": "u", "candidates": [{"video_id": "v1", "duration_s": 3.0}, {"video_id": "v2"}]},
        "endpoints/rerank http/request pipeline/rerank pipeline/rerank_query catalogue/catalogue "
        "pipeline/ranking models/features models/runtime pipeline/ranking models/fusion "
        "inference/traffic_sample pipeline/rerank_reply",
    ),
    "/label": (
        [event()],
        "endpoints/label pipeline/label http/request pipeline/label_query pipeline/label "
        "catalogue/catalogue pipeline/validation pipeline/labelling models/features models/runtime "
        "inference/traffic_sample pipeline/label_reply",
    ),
}


class Visits:
    """A profiler that notes the file of each call, once a frame."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self._frames: list[FrameType] = []  # kept, so that no two share an identity
        self._skipped: set[int] = set()

    def __call__(self, frame: FrameType, kind: str, argument: object) -> None:
        if kind != "call" or any(known is frame for known in self._frames):
            return  # a coroutine that goes on is no new call
        self._frames.append(frame)
        path = Path(frame.f_code.co_filename)
        if not path.is_relative_to(ROOT) or path.parts[len(ROOT.parts)] not in ("service", "models"):
            return
        file = str(path.relative_to(ROOT).with_suffix("")).removeprefix("service/")
        name = frame.f_code.co_name
        reads = frame.f_code.co_qualname.startswith(VALUES) or self._is_property(frame)
        dunder = name.startswith("__") and name != "__call__"
        if id(frame.f_back) in self._skipped or file.startswith(OUTSIDE) or reads or dunder:
            self._skipped.add(id(frame))
        elif not file.startswith(LAYERS) and not name.startswith("<"):
            self.files.append(file)

    @staticmethod
    def _is_property(frame: FrameType) -> bool:
        instance = frame.f_locals.get("self")
        return isinstance(getattr(type(instance), frame.f_code.co_name, None), property)


async def visited(app: ASGIApp, path: str, body: Any) -> list[str]:
    """The files of one request, in order, each run once."""
    messages: list[Message] = []
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    visits = Visits()
    sys.setprofile(visits)
    try:
        await app(scope, receive, send)
    finally:
        sys.setprofile(None)
    assert messages[0]["status"] == 200, messages
    return [file for file, before in zip(visits.files, ["", *visits.files], strict=False) if file != before]


@pytest.mark.parametrize("path", PATHS)
def test_a_request_takes_the_path_that_the_readme_draws(path: str, bundles: Path, tmp_path: Path) -> None:
    body, drawn = PATHS[path]
    settings = Settings.read(bundle=bundles, data_dir=tmp_path, deadline_ms=DEADLINE_MS, poll_s=3600)

    async def main() -> list[str]:
        async with open_services(settings, MemoryStore()) as services:
            return await visited(create_app(services), path, body)

    stays = asyncio.run(main())
    assert stays == drawn.split()
    readme = (ROOT / "service" / "README.md").read_text()
    returns = len(stays) - len(set(stays))
    assert f"`POST {path}`: {len(stays)} stays, {returns} return" in readme
    assert all(file.rpartition("/")[2] in readme for file in stays)
