"""POST /label as NDJSON: both ways at once, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.errors import StoreUnavailable
from service.pipeline.label_query import MAX_LINE_BYTES
from service.state import Outcome
from tests.service.exchanges import Dialogue, line
from tests.service.memory_store import MemoryStore
from tests.service.running import Service, served

NDJSON = {"content-type": "application/x-ndjson"}


def post(client: httpx2.Client, *lines: bytes, **params: str) -> list[dict[str, Any]]:
    reply = client.post("/label", content=b"\n".join(lines), headers=NDJSON, params=params)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert reply.headers["x-accel-buffering"] == "no"  # or nginx would hold the lines back
    return [json.loads(line) for line in reply.text.splitlines()]


@pytest.fixture
def dialogue(service: Service) -> Iterator[Dialogue]:
    opened = Dialogue(service.url)
    yield opened
    opened.close()


def test_labels_flow_back_while_the_body_is_still_arriving(dialogue: Dialogue, user: str) -> None:
    for i in range(3):
        dialogue.say(line(f"{user}-{i}", user) + b"\n")
        if i == 0:
            assert b" 200 " in dialogue.headers()
        assert [answer["event_id"] for answer in dialogue.hear()] == [f"{user}-{i}"]
    dialogue.end()
    (summary,) = dialogue.hear()
    assert (summary["status"], summary["accepted"]) == ("ok", 3)
    assert dialogue.hear() == []


def test_a_line_may_come_in_pieces(dialogue: Dialogue, user: str) -> None:
    text = line(f"{user}-1", user) + b"\n"
    for i in range(0, len(text), 20):
        dialogue.say(text[i : i + 20])
    dialogue.headers()
    (answer,) = dialogue.hear()
    assert (answer["label"], answer["percentile"]) == (0.5, 0.25)


def test_each_line_has_its_answer_in_order_and_the_last_line_sums_up(
    client: httpx2.Client, user: str
) -> None:
    answers = post(
        client,
        line(f"{user}-1", user),
        b"{not json",
        b"",
        line(f"{user}-2", user, watch_time_s=-1),
        b"\xff\xfe",
        line(f"{user}-1", user),
        b"[]",
        line(f"{user}-1", user, watch_time_s=24.0) + b"\r",
    )
    codes = [a.get("code", "") for a in answers[:-1]]
    assert codes == ["", "malformed", "invalid", "malformed", "", "malformed", ""]
    assert [a["index"] for a in answers if "index" in a] == [1, 2, 3, 5]
    assert [a["duplicate"] for a in answers if "label" in a] == [False, True, False]
    assert answers[-1].items() >= {"accepted": 1, "duplicates": 1, "merged": 1, "rejected": 4}.items()


def test_indices_go_on_over_batches(client: httpx2.Client, user: str) -> None:
    lines = [line(f"{user}-{i}", user, watch_time_s=i % 24) for i in range(1300)]
    lines[700] = b"junk"
    answers = post(client, *lines, store="false")
    assert [a["index"] for a in answers if "index" in a] == [700]
    assert len(answers) == 1301
    assert answers[1299]["event_id"] == f"{user}-1299"


def test_a_line_nobody_could_hold_is_refused_alone(client: httpx2.Client, user: str) -> None:
    long = b'{"event_id": "' + b"x" * (5 * MAX_LINE_BYTES) + b'"}'
    answers = post(client, line(f"{user}-1", user), long, line(f"{user}-2", user))
    assert [a.get("code") for a in answers[:-1]] == [None, "malformed", None]
    assert answers[-1]["accepted"] == 2


def test_an_empty_stream_has_only_its_summary(client: httpx2.Client) -> None:
    (summary,) = post(client, b"")
    assert summary["accepted"] == 0


def test_the_body_has_no_limit_but_its_lines(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_body_bytes=1000, max_events=3) as client:
        answers = post(client, *(line(f"e{i}", "alice") for i in range(50)))
        assert answers[-1]["accepted"] == 50


class AwayLater(MemoryStore):
    """Takes the first batch, then is gone."""

    calls = 0

    async def record(self, user_id: str, events: Any) -> list[Outcome]:
        self.calls += 1
        if self.calls > 1:
            raise StoreUnavailable("The store is away.")
        return await super().record(user_id, events)


def test_a_store_lost_in_the_middle_is_told_in_the_last_line(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, AwayLater(), tmp_path) as client:
        dialogue = Dialogue(str(client.base_url))
        dialogue.say(line("e1", "alice") + b"\n")
        dialogue.headers()
        assert dialogue.hear()[0]["event_id"] == "e1"
        dialogue.say(line("e2", "alice") + b"\n")
        (problem,) = dialogue.hear()
        assert problem["status"] == 503
        assert dialogue.hear() == []
        dialogue.close()
        assert [e["event_id"] for e in client.get("/users/alice/sequence").json()["events"]] == ["e1"]
        whole = client.post("/label", content=line("e3", "alice"), headers=NDJSON)
        assert whole.status_code == 503
        assert whole.headers["retry-after"]
