"""The served log: what was accepted and what was ranked is in its files, whatever becomes of the disk."""

from __future__ import annotations

import gzip
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.errors import BadInput
from models.served_log import Kind, LoggedEvent, LoggedSlate, decoded_lines, log_files
from service.served_log import ended_files
from service.served_log.log import QUEUE_SIZE, ServedLog
from service.served_log.log_file import LogFile
from service.telemetry.metrics import Metrics
from service.unlearning.ledger import FILE
from tests.service import tiny_bundle
from tests.service.command_line import invoke, refusal
from tests.service.exchanges import metric
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, eventually, running, served

MIB = 2**20


@pytest.fixture
def log_dir(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def logging_client(bundles: Path, tmp_path: Path, log_dir: Path) -> Iterator[httpx2.Client]:
    with served(bundles, MemoryStore(), tmp_path / "data", log_dir=log_dir) as client:
        yield client


def logged_events(folder: Path) -> list[LoggedEvent]:
    return [e for path in log_files(folder, "events") for e in decoded_lines(path, LoggedEvent)]


def logged_slates(folder: Path) -> list[LoggedSlate]:
    return [s for path in log_files(folder, "slates") for s in decoded_lines(path, LoggedSlate)]


def label(client: httpx2.Client, *events: object, **params: str) -> Any:
    return client.post("/label", json=list(events), params=params).raise_for_status().json()


def line(user: str, number: int = 0) -> bytes:
    return json.dumps({"user_id": user, "number": number}).encode() + b"\n"


# --- events


def test_an_event_is_in_the_log_when_its_label_is_answered_and_so_is_each_version(
    logging_client: httpx2.Client, log_dir: Path
) -> None:
    first = event(request_id="r1", position=3, tab="1")
    for sent in (first, first, event(like=True)):
        label(logging_client, sent)
    accepted, duplicate, merged = logged_events(log_dir)
    assert (accepted.outcome, duplicate.outcome, merged.outcome) == ("accepted", "duplicate", "merged")
    assert (accepted.request_id, accepted.position, accepted.tab) == ("r1", 3, "1")
    assert (merged.like, merged.request_id, merged.tab) == (True, None, None)
    assert accepted.logged_at_ms > NOW_MS


def test_what_the_catalogue_knows_is_filled_in(logging_client: httpx2.Client, log_dir: Path) -> None:
    video = {"video_id": "v1", "duration_s": 9.0, "author_id": "a", "tag": "t"}
    logging_client.put("/videos", json=[video]).raise_for_status()
    sent = event()
    del sent["duration_s"]
    assert eventually(lambda: logging_client.post("/label", json=sent).status_code == 200)
    assert [(e.duration_s, e.author_id, e.tag) for e in logged_events(log_dir)] == [(9.0, "a", "t")]


def test_what_was_not_accepted_is_not_in_the_log(bundles: Path, tmp_path: Path, log_dir: Path) -> None:
    now = int(time.time() * 1000)
    with served(bundles, MemoryStore(), tmp_path / "data", log_dir=log_dir, late_s=86_400) as client:
        label(client, event("only labelled", timestamp_ms=now), store="false")
        conflict = event("good", "bob", timestamp_ms=now)
        invalid = event("invalid", timestamp_ms=now, watch_time_s=-1)
        good = event("good", timestamp_ms=now)
        reply = label(client, event("late"), good, conflict, invalid, 3)
    assert [r["code"] for r in reply["rejected"]] == ["late", "conflict", "invalid", "malformed"]
    assert [e.event_id for e in logged_events(log_dir)] == ["good"]


def test_the_sequence_does_not_keep_the_slate_that_showed_the_video(client: httpx2.Client, user: str) -> None:
    label(client, event(f"{user}-1", user, request_id=7, position=1))
    (kept,) = client.get(f"/users/{user}/sequence").json()["events"]
    assert not {"request_id", "position"} & kept.keys()
    again = label(client, event(f"{user}-1", user, request_id="another", position=2))
    assert (again["duplicates"], again["merged"]) == (1, 0)


# --- slates


def test_a_slate_is_logged_with_all_candidates_best_first(
    logging_client: httpx2.Client, log_dir: Path
) -> None:
    label(logging_client, event())
    candidates = [{"video_id": f"v{i}", "duration_s": 10.0 + i} for i in range(5)]
    body = {"user_id": "alice", "candidates": candidates, "timestamp_ms": NOW_MS, "tab": "2"}
    whole = logging_client.post("/rerank", json=body | {"request_id": "r1"}).json()
    best = logging_client.post("/rerank", json=body | {"top_k": 2}).json()
    assert eventually(lambda: len(logged_slates(log_dir)) == 2)
    first, second = logged_slates(log_dir)
    assert first.video_id == [item["video_id"] for item in whole["items"]]
    assert first.score == [item["score"] for item in whole["items"]]
    assert (first.request_id, first.user_id, first.timestamp_ms, first.tab) == ("r1", "alice", NOW_MS, "2")
    assert (first.model_version, first.returned, first.history_length) == (tiny_bundle.FIRST, 5, 1)
    assert (second.request_id, second.returned, second.video_id) == (best["request_id"], 2, first.video_id)
    assert first.weights == second.weights


def test_a_slate_by_rules_is_logged_with_them_and_begins_with_what_was_shown(
    logging_client: httpx2.Client, log_dir: Path
) -> None:
    candidates = [{"video_id": f"v{i}", "duration_s": 10.0 + i, "author_id": f"a{i // 2}"} for i in range(6)]
    rules = {"max_per_author": 1, "pin": {"v0": 1}}
    body = {"user_id": "alice", "candidates": candidates, "rules": rules}
    shown = [item["video_id"] for item in logging_client.post("/rerank", json=body).json()["items"]]
    assert eventually(lambda: len(logged_slates(log_dir)) == 1)
    (slate,) = logged_slates(log_dir)
    assert (slate.rules, slate.returned) == (rules, len(shown))
    assert slate.video_id[: len(shown)] == shown
    assert sorted(slate.video_id) == [video["video_id"] for video in candidates]
    assert slate.score[len(shown) :] == sorted(slate.score[len(shown) :], reverse=True)


def test_an_explored_slate_is_logged_with_the_propensities_of_its_reply(
    logging_client: httpx2.Client, log_dir: Path
) -> None:
    candidates = [{"video_id": f"v{i}", "duration_s": 10.0 + i} for i in range(6)]
    explore = {"temperature": 0.1, "epsilon": 0.2}
    body = {"user_id": "alice", "candidates": candidates, "explore": explore, "top_k": 4}
    items = logging_client.post("/rerank", json=body).json()["items"]
    assert eventually(lambda: len(logged_slates(log_dir)) == 1)
    (slate,) = logged_slates(log_dir)
    assert (slate.explore, slate.returned, len(slate.video_id)) == (explore, 4, 6)
    assert slate.video_id[:4] == [item["video_id"] for item in items]
    assert slate.propensity == [item["propensity"] for item in items]


def test_metarank_events_and_rankings_are_logged_as_ours(
    logging_client: httpx2.Client, log_dir: Path
) -> None:
    ranking: dict[str, Any] = {
        "id": "r1",
        "timestamp": NOW_MS,
        "user": "alice",
        "items": [{"id": "v1"}, {"id": "v2"}],
    }
    logging_client.post("/rank/default", json=ranking).raise_for_status()
    watched = [{"name": "watch_time_s", "value": 3.0}, {"name": "duration_s", "value": 9.0}]
    interaction: dict[str, Any] = {
        "event": "interaction",
        "id": "i1",
        "ranking": "r1",
        "user": "alice",
        "item": "v2",
    }
    interaction |= {"type": "watch", "timestamp": NOW_MS, "fields": watched}
    logging_client.post("/feedback", json=interaction).raise_for_status()
    assert [(e.request_id, e.video_id, e.watch_time_s) for e in logged_events(log_dir)] == [("r1", "v2", 3.0)]
    assert eventually(lambda: [s.request_id for s in logged_slates(log_dir)] == ["r1"])


def test_slates_that_find_the_queue_full_are_dropped_and_counted_and_nobody_waits(log_dir: Path) -> None:
    metrics = Metrics().served_log
    log = ServedLog(log_dir, MIB, metrics)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> bytes:
        begun.set()
        go_on.wait()
        return line("slow")

    log.submit_slate(slow)
    begun.wait()
    for _ in range(QUEUE_SIZE + 3):
        log.submit_slate(lambda: line("fast"))
    go_on.set()
    log.close()
    (path,) = log_files(log_dir, "slates")
    assert path.read_bytes().count(b"\n") == 1 + QUEUE_SIZE
    counted = {s.labels["outcome"]: s.value for s in next(iter(metrics.lines.collect())).samples}
    assert counted == {"written": 1 + QUEUE_SIZE, "dropped": 3}


def test_a_slate_that_cannot_be_written_down_does_not_end_the_log(
    log_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ServedLog(log_dir, MIB, Metrics().served_log)
    log.submit_slate(lambda: b"%d" % (1 // 0))
    log.submit_slate(lambda: line("alice"))
    log.close()
    assert "a slate could not be logged" in caplog.text
    assert [path.read_bytes() for path in log_files(log_dir, "slates")] == [line("alice")]


# --- the disk


@pytest.mark.slow
def test_a_full_disk_costs_lines_which_are_counted_and_no_request(
    bundles: Path, tmp_path: Path, log_dir: Path
) -> None:
    with running(bundles, tmp_path / "data", REELRANK_LOG_DIR=str(log_dir)) as service, service.client() as c:
        before = [event(f"before {i}") for i in range(100)]
        label(c, *before)
        pid = service.process.pid
        room = (
            log_files(log_dir, "events")[0].stat().st_size + 100
        )  # not for a whole line, but for the service's messages
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        candidates = [{"video_id": f"{i:0200}"} for i in range(150)]
        for i in range(5):
            label(c, event(f"meanwhile {i}", video_id="v" * 100))
            c.post("/rerank", json={"user_id": "alice", "candidates": candidates}).raise_for_status()
        for kind in ("events", "slates"):
            lost = f'reelrank_log_lines_total{{kind="{kind}",outcome="failed"}}'
            assert eventually(lambda: metric(c, lost) == 5), kind  # noqa: B023  # used before the next turn
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        label(c, event("after"))
        assert service.terminate() == 0
        said = service.process.stderr.read()  # type: ignore[union-attr]
    assert [e.event_id for e in logged_events(log_dir)] == [*(e["event_id"] for e in before), "after"]
    assert said.count("served log: events cannot be written") == 1
    assert said.count("served log: events can be written again") == 1


def test_a_folder_that_cannot_be_written_ends_the_start_with_one_line(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc/nope")):
        said = refusal(
            "serve", "--port", "0", "--bundle", bundles, data_dir=tmp_path, REELRANK_LOG_DIR=str(folder)
        )
        assert "REELRANK_LOG_DIR" in said
        assert str(folder) in said


def test_files_end_at_their_size_and_are_compressed_and_the_oldest_slates_are_removed_first(
    log_dir: Path,
) -> None:
    log_dir.mkdir()
    slates, events = LogFile(log_dir, "slates", 1000), LogFile(log_dir, "events", 1000)
    for number in range(4):
        for file in (events, slates):
            file.append(line("alice", number))
            file.append(b"".join(line(os.urandom(400).hex()) for _ in range(2)))
    paths = {kind: log_files(log_dir, kind) for kind in ended_files.KINDS}
    assert {kind: len(files) for kind, files in paths.items()} == {"slates": 4, "events": 4}
    whole = [path.read_bytes() for path in paths["events"]]
    ended_files.compress_ended(log_dir, lambda: None)
    compressed = log_files(log_dir, "events")
    assert [path.name for path in compressed] == [path.name + ".gz" for path in paths["events"]]
    assert [gzip.decompress(path.read_bytes()) for path in compressed] == whole
    assert not list(log_dir.glob("*.ndjson"))

    room = sum(path.stat().st_size for path in compressed[1:])
    removed = list(ended_files.remove_oldest(log_dir, room))
    assert [path.name for path in removed] == [p.name + ".gz" for p in [*paths["slates"], paths["events"][0]]]
    assert ended_files.log_bytes(log_dir) == room


def test_an_open_file_is_not_compressed_and_one_whose_writer_was_killed_is_without_its_half_line(
    log_dir: Path,
) -> None:
    log_dir.mkdir()
    file = LogFile(log_dir, "events", MIB)
    file.append(line("alice"))
    killed = log_dir / "events-20000101T000000.0-host-1.ndjson"
    killed.write_bytes(line("bob") + line("carol")[:9])
    ended_files.compress_ended(log_dir, lambda: None)
    first, second = log_files(log_dir, "events")
    assert (first.name, gzip.decompress(first.read_bytes())) == (killed.name + ".gz", line("bob"))
    assert second.read_bytes() == line("alice")
    file.close()


def test_a_file_that_is_removed_is_followed_by_another(log_dir: Path) -> None:
    log_dir.mkdir()
    file = LogFile(log_dir, "events", MIB)
    file.append(line("alice"))
    file.close_if_asked()
    (path,) = log_dir.iterdir()
    path.unlink()
    file.close_if_asked()
    file.append(line("bob"))
    assert [path.read_bytes() for path in log_dir.iterdir()] == [line("bob")]
    file.close()


def test_a_compression_that_was_cut_off_is_done_again(log_dir: Path) -> None:
    log_dir.mkdir()
    plain = log_dir / "events-1.ndjson"
    plain.write_bytes(line("alice"))
    (log_dir / "events-1.ndjson.gz.part").write_bytes(b"half")
    ended_files.compress_ended(log_dir, lambda: None)
    (path,) = log_dir.iterdir()
    assert gzip.decompress(path.read_bytes()) == line("alice")
    plain.write_bytes(line("alice"))  # killed after the compressed file was there, before this one was gone
    assert log_files(log_dir, "events") == [path]
    ended_files.compress_ended(log_dir, lambda: None)
    assert list(log_dir.iterdir()) == [path]


# --- forgotten users


def forgotten(data_dir: Path, *users: str) -> None:
    data_dir.mkdir(exist_ok=True)
    entries = [json.dumps({"user_id": user, "forgotten_at_ms": 1}) for user in users]
    (data_dir / FILE).write_text("".join(f"{entry}\n" for entry in entries))


def purge(data_dir: Path, log_dir: Path, *options: str | Path) -> str:
    env = {"REELRANK_DATA_DIR": str(data_dir), "REELRANK_LOG_DIR": str(log_dir)}
    ended = invoke("ledger", "purge", *options, env=env)
    assert ended.code == 0, ended.err
    return ended.out


def test_the_lines_of_forgotten_users_leave_every_file_while_the_service_runs(
    logging_client: httpx2.Client, log_dir: Path, tmp_path: Path
) -> None:
    body = {"candidates": [{"video_id": "v1"}]}
    for round_ in range(2):
        for user in ("alice", "bob"):
            label(logging_client, event(f"{user}-{round_}", user))
            logging_client.post("/rerank", json=body | {"user_id": user}).raise_for_status()
        assert eventually(lambda: len(logged_slates(log_dir)) == 2)
        forgotten(tmp_path / "data", "alice")
        assert purge(tmp_path / "data", log_dir).startswith("2 lines of 1 users removed")
        kinds: tuple[list[Any], list[Any]] = (logged_events(log_dir), logged_slates(log_dir))
        assert [{entry.user_id for entry in entries} for entries in kinds] == [{"bob"}, {"bob"}]
        forgotten(tmp_path / "data", "bob")
        assert purge(tmp_path / "data", log_dir).startswith("2 lines")
        assert b"bob" not in b"".join(path.read_bytes() for path in log_dir.iterdir())
        assert not logged_events(log_dir)


def test_users_of_other_ledgers_are_removed_too_and_files_without_them_stay_as_they_are(
    log_dir: Path, tmp_path: Path
) -> None:
    log_dir.mkdir()
    for kind in ("events", "slates"):
        (log_dir / f"{kind}-1.ndjson").write_bytes(line("alice") + line("bob"))
    ended_files.compress_ended(log_dir, lambda: None)
    forgotten(tmp_path / "other", "alice", "bob")
    before = {path: path.stat().st_ino for path in log_dir.glob("*.gz")}
    assert purge(tmp_path, log_dir).startswith("0 lines of 0 users removed from 2 files")
    assert {path: path.stat().st_ino for path in log_dir.glob("*.gz")} == before
    assert purge(tmp_path, log_dir, "--ledger", tmp_path / "other" / FILE).startswith("4 lines of 2 users")
    assert not list(log_dir.glob("*.gz"))


@pytest.mark.parametrize("kind", ["events", "slates"])
def test_a_file_that_is_not_ended_and_a_line_without_a_user_end_the_purge_with_one_line(
    log_dir: Path, tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_files, "CLOSE_TIMEOUT_S", 0.2)
    log_dir.mkdir()
    forgotten(tmp_path, "alice")
    env = {"REELRANK_LOG_DIR": str(log_dir)}
    file = LogFile(log_dir, kind, MIB)
    file.append(line("alice"))
    assert "is still being written" in refusal("ledger", "purge", data_dir=tmp_path, **env)
    file.close()
    (log_dir / f"{kind}-0.ndjson").write_bytes(b'{"user": "alice"}\n')
    assert "names no user" in refusal("ledger", "purge", data_dir=tmp_path, **env)
    with pytest.raises(BadInput, match="line 1 is no line of a served log"):
        logged_events(log_dir) if kind == "events" else logged_slates(log_dir)


def test_without_a_log_there_is_nothing_to_purge(tmp_path: Path) -> None:
    assert "REELRANK_LOG_DIR" in refusal("ledger", "purge", data_dir=tmp_path)
    missing = str(tmp_path / "missing")
    assert "is no folder" in refusal("ledger", "purge", data_dir=tmp_path, REELRANK_LOG_DIR=missing)
