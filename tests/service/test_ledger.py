"""`python -m service ledger`: who asked to be forgotten, as training reads it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from models import ledger
from models.errors import BadInput
from service.commands.ledger import export
from service.unlearning.ledger import FILE, Ledger
from tests.service.exchanges import metric
from tests.service.memory_store import MemoryStore
from tests.service.running import START_S, command, eventually, running, served


def write(folder: Path, *entries: tuple[str, int]) -> None:
    lines = [json.dumps({"user_id": user, "forgotten_at_ms": at}) for user, at in entries]
    (folder / FILE).write_text("".join(line + "\n" for line in lines))


def exported(capsys: pytest.CaptureFixture[str], since: str | None = None) -> list[str]:
    export(since, as_json=True)
    return [json.loads(line)["user_id"] for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REELRANK_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_what_two_workers_were_told_is_what_the_command_prints(bundles: Path, tmp_path: Path) -> None:
    users = [f"u{i}" for i in range(12)]
    before = int(time.time() * 1000)
    with running(bundles, tmp_path, "--workers", "2") as service:
        for user in [*users, users[0]]:
            with service.client() as client:  # a connection each, so that both workers get some
                client.delete(f"/users/{user}").raise_for_status()
    with command("ledger", "--json", data_dir=tmp_path) as process:
        printed, said = process.communicate(timeout=START_S)
    assert process.returncode == 0
    assert f"{len(users)} users" in said
    copy = tmp_path / "copy"
    copy.write_text(printed)
    entries = ledger.read(copy)
    assert [e.user_id for e in entries] == [*users[1:], users[0]]
    assert all(e.forgotten_at_ms >= before for e in entries)


def test_each_user_is_printed_once_at_their_last_request(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = 86_400_000
    write(data_dir, ("a", 3 * day), ("b", day), ("a", 0))
    assert exported(capsys) == ["b", "a"]
    assert exported(capsys, "1970-01-02") == ["b", "a"]
    assert exported(capsys, "1970-01-02T00:00:01Z") == ["a"]
    assert exported(capsys, "1970-01-02T02:00:00+02:00") == ["b", "a"]
    assert exported(capsys, str(20_000 * day)) == []
    export(None, as_json=False)
    assert capsys.readouterr().out.splitlines() == ["1970-01-02T00:00:00Z  b", "1970-01-04T00:00:00Z  a"]


def test_what_an_operator_added_is_printed_too_and_waits(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        '{"user_id": "u", "forgotten_at_ms": 0}\n{"author_id": "a", "forgotten_at_ms": 1}\n'
        '{"user_id": "u", "video_id": "v", "timestamp_ms": 3, "forgotten_at_ms": 2}\n'
    )
    (data_dir / FILE).write_text(text + text)
    export(None, as_json=False)
    printed = capsys.readouterr()
    assert [line.split("  ")[1] for line in printed.out.splitlines()] == [
        "u",
        "author_id=a",
        "user_id=u video_id=v timestamp_ms=3",
    ]
    assert "1 users and 2 other entries" in printed.err
    assert Ledger(data_dir / FILE).waiting(None) == (3, 0)


def test_no_ledger_yet_is_an_empty_one_and_a_missing_folder_is_not(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exported(capsys) == []
    monkeypatch.setenv("REELRANK_DATA_DIR", str(data_dir / "nope"))
    with pytest.raises(BadInput, match="cannot be read"):
        export(None, as_json=True)


@pytest.mark.parametrize("since", ["yesterday", "", "2026-13-01", "-5", "1e9", "1651330969", "9" * 5000])
def test_a_time_that_is_none_is_refused(since: str) -> None:
    with pytest.raises(BadInput, match="--since"):
        export(since, as_json=True)


def test_users_of_lines_after_those_a_bundle_has_forgotten_wait(data_dir: Path) -> None:
    own = Ledger(data_dir / FILE)
    assert own.waiting(None) == (0, None)
    write(data_dir, ("a", 3), ("b", 5), ("a", 7))
    assert own.waiting(None) == (2, 3)
    assert own.waiting(4) == (2, 5)
    assert own.waiting(5) == (1, 7)
    assert own.waiting(7) == (0, None)
    write(data_dir, ("a", 3), ("b", 5), ("a", 7), ("c", 8))
    assert own.waiting(7) == (1, 8)
    (data_dir / FILE).write_text("{}")
    with pytest.raises(BadInput, match="line 1"):
        own.waiting(7)


def test_the_metrics_say_how_many_users_wait_and_since_when(bundles: Path, data_dir: Path) -> None:
    before = time.time()
    with served(bundles, MemoryStore(), data_dir) as client:
        assert metric(client, "reelrank_forget_waiting_users") == 0.0
        for user in ("a", "b", "a"):
            client.delete(f"/users/{user}").raise_for_status()
        assert eventually(lambda: metric(client, "reelrank_forget_waiting_users") == 2.0)
        assert before - 1 <= metric(client, "reelrank_forget_waiting_since_seconds") <= time.time()
