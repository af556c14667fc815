"""What was sent to a service is what is prepared from its log, though its processes are killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import polars as pl
import pytest

from models.schema import FLAGS
from models.served_log import LoggedSlate, decoded_lines, log_files
from tests.conftest import ROOT, run_ok
from tests.service.running import Service, eventually, running
from training.data import load
from training.train.identity import fit_identity
from training.train.recipes import any_log

RELEASED = ROOT / "models" / "bundles"
ROWS = 1_500
BATCH = 50
BATCHES_A_KILL = 15

Event = dict[str, Any]


def versions_of(rows: pl.DataFrame, draw: random.Random) -> list[Event]:
    """Events that say together what the rows do: parts of exposures, repetitions, out of order."""
    sent: list[Event] = []
    for number, row in enumerate(rows.to_dicts()):
        whole = {name: value for name, value in row.items() if value is not None}
        whole |= {"event_id": f"e{number}", "request_id": f"r{number // 7}", "position": number % 7 + 1}
        watched = whole | dict.fromkeys(FLAGS, False)
        begun = watched | {"watch_time_s": row["watch_time_s"] / 3, "timestamp_ms": row["timestamp_ms"] - 9}
        shown = {name: value for name, value in begun.items() if name not in ("tab", "author_id", "tag")}
        sent += draw.choice([[whole], [whole] * 2, [begun, whole], [shown, watched, whole], [whole, begun]])
    draw.shuffle(sent)
    return sent


def workers(service: Service) -> list[int]:
    """Processes that answer: the supervisor's children but the store."""
    pid = service.process.pid
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"valkey" not in Path(f"/proc/{child}/cmdline").read_bytes()]


def post(service: Service, path: str, body: object) -> bool:
    """Whether the request was answered, over a connection of its own, which reaches any worker."""
    with contextlib.suppress(httpx2.HTTPError), service.client() as client:
        return client.post(path, json=body).status_code == 200
    return False


def send(service: Service, batches: Iterator[list[Event]], kills: int) -> None:
    """Send events, with a slate now and then, and repeat what was not answered; kill workers meanwhile."""
    for number, batch in enumerate(batches, 1):
        if kills and number % BATCHES_A_KILL == 0:
            kills -= 1
            os.kill(workers(service)[0], signal.SIGKILL)
        assert eventually(lambda: post(service, "/label", batch))  # noqa: B023  # used before the next turn
        if number % 5 == 0:
            candidates = [{"video_id": event["video_id"]} for event in batch]
            post(service, "/rerank", {"user_id": batch[0]["user_id"], "candidates": candidates})


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
def test_a_log_prepared_from_a_killed_service_is_the_log_that_was_sent(
    synthetic_data: Path, tmp_path: Path
) -> None:
    rows = load(synthetic_data).log.head(ROWS)
    sent = versions_of(rows, random.Random(7))
    batches = (sent[i : i + BATCH] for i in range(0, len(sent), BATCH))
    folder = tmp_path / "log"
    env = {"REELRANK_LOG_DIR": str(folder), "REELRANK_LOG_MAX_BYTES": str(8 * 2**20)}  # many files
    with running(RELEASED, tmp_path / "data", "--workers", "2", **env) as service:
        send(service, (next(batches) for _ in range(2 * BATCHES_A_KILL)), kills=2)
        service.process.kill()
    with running(RELEASED, tmp_path / "data", **env) as service:
        send(service, batches, kills=0)
        run_ok("prepare", "--dataset", "served", "--source", folder, "--out", tmp_path / "running")
    run_ok("prepare", "--dataset", "served", "--source", folder, "--out", tmp_path / "ended")
    rows.write_csv(tmp_path / "log.csv")
    run_ok("prepare", "--dataset", "own", "--source", tmp_path / "log.csv", "--out", tmp_path / "own")
    fit_of = [fit_identity(load(tmp_path / way), "any_log", any_log()) for way in ("own", "ended")]
    for out in (tmp_path / "running", tmp_path / "ended"):
        assert load(out).log.equals(rows)
    # What a fit reads is the same, so its figures are: these logs have no features of users.
    own, ended = ({**fit, "data": {**fit["data"], "users": None}} for fit in fit_of)
    assert own == ended
    slates = [slate for path in log_files(folder, "slates") for slate in decoded_lines(path, LoggedSlate)]
    assert slates
    assert all(len(slate.video_id) == len(slate.score) for slate in slates)
