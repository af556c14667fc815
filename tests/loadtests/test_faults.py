"""The fault table in small: the real service, a real store, and what may never happen whatever breaks."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from typer.testing import CliRunner, Result

from loadtests.faults import clients, processes, store, versions
from loadtests.faults.__main__ import main
from loadtests.faults.client import Answer
from loadtests.faults.durability import through_kills
from loadtests.faults.ledger import Count, Ledger
from loadtests.faults.load import FAST, Load
from loadtests.faults.report import EVERY_SECOND, Row
from loadtests.faults.runs import NAMES
from loadtests.faults.stage import Stage, stage
from loadtests.table import faults_table
from tests.conftest import ROOT
from tests.service import tiny_bundle
from tests.service.running import eventually

# The HTTP client of the load may leave a connection to the garbage collector that was reset by the kill of a
# process while it was being opened.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")

app = typer.Typer()
app.command()(main)

ANSWERED = {"200", "200 degraded", "408", "429", "503"}
"""What may be answered to requests that have nothing wrong about them, while something else is broken. Some
of it may come from a busy machine: how much there is of it is for the table to say, not for a test."""
NOT_ANSWERED = {"refused", "broken"}
"""And what may come instead of an answer where the process that was asked has been ended."""
ALL_THERE = Count(sent=5, acknowledged=5, lost=0, doubled=0)


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """What is left to the collector is collected here, not during somebody else's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write(tmp_path_factory.mktemp("bundles") / tiny_bundle.FIRST)


@pytest.fixture(scope="module")
def outside(version: Path) -> Iterator[Stage]:
    """With a Valkey of ours behind a proxy."""
    with stage(version, FAST, outside=True, appendfsync="always") as ready:
        yield ready


@pytest.fixture(scope="module")
def own(version: Path) -> Iterator[Stage]:
    """With the service's own store."""
    with stage(version, FAST, env={"REELRANK_POLL_S": "0.05"}) as ready:
        yield ready


def assert_sound(row: Row, allowed: set[str]) -> None:
    """Nothing lost, doubled or dropped, no 500, no traceback, recovered; and it did happen under load."""
    assert row.wrong == []
    assert set(row.answers) <= allowed, row.answers
    assert row.events.acknowledged == row.events.sent > 0
    assert row.label_ms
    assert row.answers["200"] > 0


# --- what breaks


@pytest.mark.parametrize("name", store.SCENARIOS)
def test_a_fault_of_the_store_loses_and_doubles_nothing(outside: Stage, name: str) -> None:
    row = store.SCENARIOS[name](name, outside)
    assert_sound(row, ANSWERED)
    if name in ("store refused", "store killed"):
        assert row.answers["503"] > 0
        assert row.answers["200 degraded"] > 0


@pytest.fixture(scope="module")
def debian(version: Path) -> Iterator[Stage]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH (apt-get install redis-server)")
    with stage(version, FAST, outside=True, appendfsync="always", server=Path(program)) as ready:
        yield ready


def test_the_same_on_the_redis_of_the_system(debian: Stage) -> None:
    assert_sound(store.SCENARIOS["store emptied"]("store emptied", debian), ANSWERED)


@pytest.mark.parametrize("name", clients.SCENARIOS)
def test_bad_clients_do_not_disturb_the_others(own: Stage, name: str) -> None:
    row = clients.SCENARIOS[name](name, own)
    assert_sound(row, ANSWERED)
    if name.startswith("bodies"):
        assert row.notes["told"] == {"413": FAST.times}


@pytest.mark.parametrize("name", versions.SCENARIOS)
def test_no_request_notices_another_bundle(own: Stage, name: str) -> None:
    row = versions.SCENARIOS[name](name, own)
    assert_sound(row, ANSWERED)


@pytest.mark.parametrize("name", processes.SCENARIOS)
def test_a_service_that_ends_loses_and_doubles_nothing(own: Stage, name: str) -> None:
    row = processes.SCENARIOS[name](name, own)
    assert_sound(row, ANSWERED | NOT_ANSWERED)
    assert row.notes.get("exit_code", 0) == 0


def test_a_worker_that_is_killed_is_replaced(version: Path) -> None:
    with stage(version, FAST, "--workers", "2") as ready:
        if not (Path("/proc") / str(ready.program.pid) / "task").exists():
            pytest.skip("finds the workers in /proc")
        row = processes.OF_WORKERS["worker killed"]("worker killed", ready)
    assert_sound(row, ANSWERED | NOT_ANSWERED)


def test_events_outlive_every_way_of_killing_service_and_store(version: Path) -> None:
    with stage(version, FAST, outside=True, appendfsync="always") as ready:
        row = through_kills("kills", ready)
    assert_sound(row, ANSWERED | NOT_ANSWERED)
    assert row.events.acknowledged >= FAST.events
    assert row.notes["kills"] == FAST.kills == 3  # one of each way


# --- whoever counts can count


def test_the_ledger_sees_what_is_lost(own: Stage) -> None:
    with own.load(senders=1, events=10) as load:
        assert eventually(lambda: load.ledger.acknowledged >= 30)
    with own.http() as http:
        gone = load.ledger.user(0)
        held = len(http.get(f"/users/{gone}/sequence").json()["events"])
        http.delete(f"/users/{gone}").raise_for_status()
        count = load.ledger.check(http)
    assert (count.lost, count.doubled) == (held, 0)
    assert held > 0


@pytest.mark.parametrize("how", ["twice in a sequence", "new a second time", "other than it was sent"])
def test_the_ledger_sees_what_no_service_should_do(how: str) -> None:
    ledger = Ledger("t")
    held: dict[str, list[dict[str, object]]] = {}

    def service(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, json={"events": held[request.url.path.split("/")[2]]})
        labels = []
        for event in json.loads(request.content):
            known = held.setdefault(event["user_id"], [])
            duplicate = event in known and how != "new a second time"
            if not duplicate:
                known[:] = [other for other in known if other["event_id"] != event["event_id"]]
            stored = event | ({"watch_time_s": 1e9} if how == "other than it was sent" else {})
            known += [stored] * (2 if how == "twice in a sequence" and not duplicate else 1 - duplicate)
            labels.append({"event_id": event["event_id"], "duplicate": duplicate})
        return httpx2.Response(200, json={"labels": labels})

    with httpx2.Client(base_url="http://t", transport=httpx2.MockTransport(service)) as http:
        batch = ledger.batch(12)
        ledger.settle(batch, http.post("/label", json=batch).json())
        count = ledger.check(http)
    assert (count.lost, count.doubled) == ((12, 0) if how == "other than it was sent" else (0, 12))


@pytest.mark.parametrize(
    ("outcomes", "recovered_s"),
    [("200 200", 0.0), ("503 200", 1.0), ("200 503 503 200", 3.0), ("200 degraded,200", 1.0), ("503", None)],
)
def test_recovered_is_when_the_last_bad_answer_is_over(outcomes: str, recovered_s: float | None) -> None:
    load = Load("http://t", {}, Ledger("t"), FAST, ended_s=100.0)
    named = outcomes.split(",") if "," in outcomes else outcomes.split()
    load.answers = [Answer("/label", 99.0, 0.0, "503", {})]  # while the fault lasted
    load.answers += [Answer("/label", 100.0 + at, 0.1, name, {}) for at, name in enumerate(named)]
    assert load.recovered_s() == recovered_s


def test_a_row_says_what_must_never_be() -> None:
    def told(**members: Any) -> list[str]:
        well: dict[str, Any] = {"name": "t", "events": ALL_THERE, "answers": {"200": 9}, "notes": {}}
        well |= {"recovered_s": 0.0, "tracebacks": 0}
        return Row(requests=9, label_ms={}, rerank_ms={}, **well | members).wrong

    assert told() == []
    assert told(events=Count(sent=5, acknowledged=5, lost=2, doubled=1)) == [
        "2 events lost",
        "1 events doubled",
    ]
    lost = {"name": EVERY_SECOND, "notes": {"events_per_s": 2}}
    assert told(events=Count(sent=5, acknowledged=5, lost=2, doubled=0), **lost) == []
    assert told(events=Count(sent=5, acknowledged=5, lost=3, doubled=0), **lost) == ["3 events lost"]
    assert told(answers={"200": 8, "500": 1}) == ["1 answers 500"]
    assert told(tracebacks=3, recovered_s=None) == ["3 tracebacks in the log", "it did not recover"]
    assert told(notes={"dropped": 4, "survives_a_restart": False}) == [
        "4 requests dropped",
        "not so: survives a restart",
    ]


# --- the command


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


def test_the_command_prints_a_table_and_writes_the_same_as_json(version: Path, tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    done = command("--fast", "--only", "store refused", "--bundle", version, "--json", out)
    assert done.exit_code == 0, done.stderr
    report = json.loads(out.read_text())
    assert [row["name"] for row in report["rows"]] == ["store refused"]
    assert {"command", "commit", "date", "machine"} < set(report)
    assert done.stdout == faults_table(report)
    assert len({line.count("|") for line in done.stdout.splitlines() if line.startswith("|")}) == 1


def test_interrupted_it_leaves_no_process_behind(version: Path, short_tmp: Path) -> None:
    asked = ("--fast", "--only", "store frozen", "--bundle", str(version))
    with subprocess.Popen(
        [sys.executable, "-m", "loadtests.faults", *asked],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(short_tmp)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "store frozen" in process.stderr.readline()
        assert eventually(lambda: len(mentioning(short_tmp)) >= 2)
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=120)
        finally:
            process.kill()  # the `with` would wait for ever for one that does not end
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert mentioning(short_tmp) == []
    assert list(short_tmp.iterdir()) == []


def test_a_load_interrupted_while_its_thread_starts_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        begin(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), Load("http://127.0.0.1:9", {}, Ledger("i"), FAST):
        pytest.fail("there is no block to enter")
    monkeypatch.undo()
    assert eventually(lambda: not [t for t in threading.enumerate() if t.name == "load"])


def mentioning(folder: Path) -> list[str]:
    """Command lines of running processes that name the folder."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            called = cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if str(folder) in called:
            found.append(called)
    return found


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--only", "nothing"], NAMES[0]), (["--bundle", "/nowhere"], "/nowhere"), (["--json", "/no/f"], "/no")],
)
def test_what_is_wrong_with_the_command_is_said_in_one_line(arguments: list[str], named: str) -> None:
    done = command("--fast", *arguments)
    assert done.exit_code == 2
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
