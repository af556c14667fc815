"""Fault drills in small, on the real service with a real store; and the ledger that settles them."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from loadtests.environment import start_environment
from loadtests.faults.__main__ import EMBEDDED_DRILLS, NAMES, app
from loadtests.faults.background_load import FAST, Answer, BackgroundLoad
from loadtests.faults.drills import (
    PROCESS_DRILLS,
    STORE_DRILLS,
    WORKER_DRILLS,
    DrillContext,
    DrillResult,
    kill_repeatedly,
)
from loadtests.faults.ledger import Count, Ledger
from loadtests.faults.supervision import SUPERVISION_DRILLS
from loadtests.report import EVERY_SECOND, render_faults
from tests.conftest import ROOT
from tests.service.running import eventually

ANSWERED = {"200", "200 degraded", "408", "429", "503"}
"""What a good request may get while something else is broken; how often, a busy machine decides."""
NO_ANSWER = {"refused", "broken"}
"""And what it may get where the process that it was sent to has ended, or cannot accept it."""
ALL_STORED = Count(sent=5, acknowledged=5, losses=0, duplicates=0)
LIKE_ANOTHER = {
    *("bodies of 10 MB in chunks", "clients with slow headers", "bundle promoted", "half-closed clients"),
    *("garbage behind a request", "hot user", "largest bodies", "data folder deleted", "endless graph"),
}
"""Drills left to `make faults`, because another test takes the same path."""
NOWHERE = ("127.0.0.1", 9)


@pytest.fixture(scope="module", autouse=True)
def collect_garbage() -> Iterator[None]:
    """Collect sockets of killed processes here, not during another test."""
    yield
    gc.collect()


@contextmanager
def drill_context(version: Path, *options: str, **settings: Any) -> Iterator[DrillContext]:
    with start_environment(version, *options, **settings) as env:
        yield DrillContext(env, FAST)


@pytest.fixture(scope="module")
def external(version: Path) -> Iterator[DrillContext]:
    with drill_context(version, external_store=True, appendfsync="always") as context:
        yield context


@pytest.fixture(scope="module")
def embedded(version: Path) -> Iterator[DrillContext]:
    with drill_context(version, env={"REELRANK_POLL_S": "0.05"}) as context:
        yield context


def assert_sound(result: DrillResult, allowed: set[str] = ANSWERED) -> None:
    """Nothing lost, duplicated or dropped, no 500, no traceback, recovered; and it happened under load."""
    assert result.failures() == []
    assert set(result.answers) <= allowed, result.answers
    assert result.events.acknowledged == result.events.sent > 0
    assert result.label_ms
    assert result.answers["200"] > 0


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["store refused", "store killed", "store emptied"])
def test_a_fault_of_the_store_loses_and_duplicates_nothing(external: DrillContext, name: str) -> None:
    result = STORE_DRILLS[name](name, external)
    assert_sound(result)
    if name in ("store refused", "store killed"):
        assert result.answers["503"] > 0
        assert result.answers["200 degraded"] > 0


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
def test_the_same_on_the_redis_of_the_system(version: Path) -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH (apt-get install redis-server)")
    options = {"external_store": True, "appendfsync": "always", "store_program": Path(program)}
    with drill_context(version, **options) as context:
        assert_sound(STORE_DRILLS["store emptied"]("store emptied", context))


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(EMBEDDED_DRILLS) - LIKE_ANOTHER))
def test_clients_bundles_and_restarts_lose_and_duplicate_nothing(embedded: DrillContext, name: str) -> None:
    result = EMBEDDED_DRILLS[name](name, embedded)
    unanswered = name in PROCESS_DRILLS | SUPERVISION_DRILLS
    assert_sound(result, ANSWERED | NO_ANSWER if unanswered else ANSWERED)
    assert result.notes.get("exit_code", 0) == 0
    if name.startswith("bodies"):
        assert result.notes["statuses"] == {"413": FAST.repetitions}


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_killed_worker_is_replaced(version: Path) -> None:
    with drill_context(version, "--workers", "2") as context:
        result = WORKER_DRILLS["worker killed"]("worker killed", context)
    assert_sound(result, ANSWERED | NO_ANSWER)


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
def test_events_survive_every_way_of_killing_service_and_store(version: Path) -> None:
    with drill_context(version, external_store=True, appendfsync="always") as context:
        result = kill_repeatedly("kills", context)
    assert_sound(result, ANSWERED | NO_ANSWER)
    assert result.events.acknowledged >= FAST.events
    assert result.notes["kills"] == FAST.kills == 3  # one of each way


# --- the ledger


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
def test_the_ledger_detects_a_loss(embedded: DrillContext) -> None:
    with embedded.load(senders=1, events=10) as load:
        assert eventually(lambda: load.ledger.acknowledged >= 30)
    with embedded.env.service.http() as http:
        user = load.ledger.user(0)
        stored = len(http.get(f"/users/{user}/sequence").json()["events"])
        http.delete(f"/users/{user}").raise_for_status()
        count = load.ledger.check(http)
    assert (count.losses, count.duplicates) == (stored, 0)
    assert stored > 0


@pytest.mark.parametrize("fault", ["twice in a sequence", "new a second time", "other than it was sent"])
def test_the_ledger_detects_what_no_service_should_do(fault: str) -> None:
    ledger = Ledger("t")
    sequences: dict[str, list[dict[str, object]]] = {}

    def service(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, json={"events": sequences[request.url.path.split("/")[2]]})
        labels = []
        for event in json.loads(request.content):
            known = sequences.setdefault(event["user_id"], [])
            duplicate = event in known and fault != "new a second time"
            if not duplicate:
                known[:] = [other for other in known if other["event_id"] != event["event_id"]]
            stored = event | ({"watch_time_s": 1e9} if fault == "other than it was sent" else {})
            known += [stored] * (2 if fault == "twice in a sequence" and not duplicate else 1 - duplicate)
            labels.append({"event_id": event["event_id"], "duplicate": duplicate})
        return httpx2.Response(200, json={"labels": labels})

    with httpx2.Client(base_url="http://t", transport=httpx2.MockTransport(service)) as http:
        batch = ledger.batch(12)
        ledger.settle(batch, http.post("/label", json=batch).json())
        count = ledger.check(http)
    assert (count.losses, count.duplicates) == ((12, 0) if fault == "other than it was sent" else (0, 12))


@pytest.mark.parametrize(
    ("outcomes", "recovered_s"),
    [
        (["200", "200"], 0.0),
        (["503", "200"], 1.0),
        (["200", "503", "503", "200"], 3.0),
        (["200 degraded", "200"], 1.0),
        (["503"], None),
    ],
)
def test_recovery_is_when_the_last_bad_answer_is_over(outcomes: list[str], recovered_s: float | None) -> None:
    load = BackgroundLoad(NOWHERE, Ledger("t"), FAST, fault_end_s=100.0)
    load.answers = [Answer("/label", 99.0, 0.0, "503", {})]  # during the fault
    load.answers += [Answer("/label", 100.0 + s, 0.1, outcome, {}) for s, outcome in enumerate(outcomes)]
    assert load.recovered_s() == recovered_s


def test_a_result_lists_what_must_not_happen() -> None:
    def failures(**members: Any) -> list[str]:
        good: dict[str, Any] = {"name": "t", "events": ALL_STORED, "answers": {"200": 9}, "notes": {}}
        good |= {"recovered_s": 0.0, "tracebacks": 0}
        return DrillResult(requests=9, label_ms={}, rerank_ms={}, **good | members).failures()

    def losses(count: int, duplicates: int = 0) -> Count:
        return Count(sent=5, acknowledged=5, losses=count, duplicates=duplicates)

    everysec = {"name": EVERY_SECOND, "notes": {"events_per_s": 2}}
    assert failures() == []
    assert failures(events=losses(2, duplicates=1)) == ["2 events lost", "1 events duplicated"]
    assert failures(events=losses(2), **everysec) == []
    assert failures(events=losses(3), **everysec) == ["3 events lost"]
    assert failures(answers={"200": 8, "500": 1}) == ["1 answers 500"]
    assert failures(tracebacks=3, recovered_s=None) == ["3 tracebacks in the log", "no recovery"]
    assert failures(notes={"dropped": 4, "survives_a_restart": False}) == [
        "4 requests dropped",
        "failed: survives a restart",
    ]


# --- the command


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_the_same_as_json(version: Path, tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    arguments = ["--fast", "--only", "store trickles", "--bundle", str(version), "--json", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    report = json.loads(out.read_text())
    assert [row["name"] for row in report["rows"]] == ["store trickles"]
    assert {"command", "commit", "date", "machine"} < set(report)
    assert done.stdout == render_faults(report)
    assert len({line.count("|") for line in done.stdout.splitlines() if line.startswith("|")}) == 1


@pytest.mark.slow
def test_an_interrupt_leaves_no_process_behind(version: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="t-") as name:  # short enough for a socket in it
        folder = Path(name)
        command = [sys.executable, "-m", "loadtests.faults", "--fast", "--only", "store frozen"]
        with subprocess.Popen(
            [*command, "--bundle", str(version)],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": name},
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts background jobs with SIGINT ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stderr is not None
            assert "store frozen" in process.stderr.readline()
            assert eventually(lambda: len(processes_that_name(folder)) >= 2)
            process.send_signal(signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=120)
            finally:
                process.kill()  # the `with` would wait for ever for one that does not end
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert processes_that_name(folder) == []
        assert list(folder.iterdir()) == []


def test_an_interrupt_while_the_thread_starts_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    start: Callable[[threading.Thread], None] = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), BackgroundLoad(NOWHERE, Ledger("i"), FAST):
        pytest.fail("there is no block to enter")
    monkeypatch.undo()
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "load"])


def processes_that_name(folder: Path) -> list[str]:
    """Command lines of running processes with the folder in them."""
    lines = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended
    return [line for line in lines if str(folder) in line]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "nothing"], NAMES[0]), (["--bundle", "/nowhere"], "/nowhere"), (["--json", "/no/f"], "/no")],
)
def test_a_bad_option_is_an_error_in_one_line(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["--fast", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
