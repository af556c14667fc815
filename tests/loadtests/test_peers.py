"""The comparison with other servers: what it computes, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtests.client import post
from loadtests.command import LoadtestError
from loadtests.environment import ServerProcess, version_folder
from loadtests.host import cpu_ms
from loadtests.peers.__main__ import CANDIDATES, HISTORY, app, compare_servers
from loadtests.peers.comparison import check_agreement, compare, difference, pss_mib, summarize_ratios
from loadtests.peers.ranking import Ranker, Request
from loadtests.peers.servers import (
    FOLDER,
    READY_PATHS,
    Server,
    install,
    installed_python,
    peer_variables,
    pinned_version,
    requirements,
)
from loadtests.report import REELRANK, render_peers
from loadtests.traffic import Traffic
from models.features import Candidates, Exposures
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent
from service.pipeline.ranking import RankingContext, rank
from tests.loadtests.stub_server import serve_replies

SLATE = {
    "items": [
        {"video_id": "a", "rank": 1, "score": 0.5, "watch_time_s": 10.0},
        {"video_id": "b", "rank": 2, "score": 0.25, "watch_time_s": 4.0},
    ]
}


@contextmanager
def stub(name: str, body: object, status: int = 200) -> Iterator[Server]:
    process = ServerProcess(["true"], {}, Path("/dev/null"))
    with serve_replies(lambda number: status, json.dumps(body).encode()) as address:
        yield Server(name, address, process)


def test_equal_slates_do_not_differ_and_rounding_is_tolerated() -> None:
    other = json.loads(json.dumps(SLATE))
    other["items"][0]["score"] += 4e-6
    other["items"][0]["watch_time_s"] *= 1 + 4e-6
    assert difference(SLATE, other) is None


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("score", 0.5001, "score of a"),
        ("watch_time_s", 10.01, "watch_time_s of a"),
        ("video_id", "c", "rank 1 is c"),
        ("rank", 3, "rank 3 is a"),
    ],
)
def test_each_member_of_an_item_is_compared(member: str, value: object, message: str) -> None:
    other = json.loads(json.dumps(SLATE))
    other["items"][0][member] = value
    assert message in (difference(SLATE, other) or "")
    assert difference(SLATE, {"items": SLATE["items"][:1]}) == "1 items, not 2"


def test_servers_that_disagree_or_fail_give_no_figure() -> None:
    reordered = {"items": SLATE["items"][::-1]}
    request = post("/rerank", b"{}")
    with (
        stub(REELRANK, SLATE) as ours,
        stub("bentoml", SLATE) as same,
        stub("litserve", reordered) as differs,
        stub("litserve", {"detail": "broken"}, status=500) as broken,
    ):
        check_agreement([ours, same], [request])
        with pytest.raises(LoadtestError, match="litserve does not agree with reelrank: rank 2 is b"):
            check_agreement([ours, same, differs], [request])
        with pytest.raises(LoadtestError, match=r"litserve: the service replied 500.*broken"):
            check_agreement([ours, broken], [request])
        with pytest.raises(LoadtestError, match=r"litserve: .*500"):
            compare([ours, broken], [request], seconds=0.2, rounds=1)


def test_every_server_has_a_figure_for_each_round() -> None:
    with stub(REELRANK, SLATE) as ours, stub("litserve", SLATE) as peer:
        figures = compare([ours, peer], [post("/rerank", b"{}")], seconds=0.2, rounds=2)
    for row in figures["servers"].values():
        assert all(len(row[name]) == 2 for name in ("rate", "cpu_ms", "p50_ms", "p99_ms"))
        assert all(value > 0 for value in (*row["rate"], *row["p50_ms"]))


def test_the_peers_rank_as_the_service_does() -> None:
    folder = version_folder(None)
    bundle, ranker = Bundle.load(folder), Ranker(folder)
    traffic = Traffic(20, 4, list(bundle.vocabulary.id_to_index("video_id")))
    for number, user in enumerate(traffic.users):  # the last one has no history
        events = traffic.history_events(HISTORY, [user]) if number < 3 else []
        body = traffic.slate(user, CANDIDATES)
        history = b"[" + b",".join(events) + b"]" if events else None
        actual = ranker.rank(Request.model_validate(body), history)
        candidates = Candidates.from_rows([Candidate(**c) for c in body["candidates"]])
        exposures = Exposures.from_events([FeedbackEvent(**json.loads(e)) for e in events])
        context = RankingContext(candidates, exposures, {}, None, body["timestamp_ms"])
        slate = rank(bundle, context, bundle.manifest.weights)
        expected = [
            {
                "video_id": body["candidates"][i]["video_id"],
                "rank": position,
                "score": float(slate.score[i]),
                "watch_time_s": float(slate.watch_time_s[i]),
            }
            for position, i in enumerate(slate.order, 1)
        ]
        assert difference({"items": expected}, {"items": actual}) is None


# --- figures


def make_comparison(reelrank: list[float], one: list[float], other: list[float]) -> dict[str, Any]:
    """A comparison in which all figures of a server are the same."""
    columns = ("rate", "cpu_ms", "p50_ms", "p99_ms")
    rows = {REELRANK: reelrank, "bentoml": one, "litserve": other}
    servers = {name: dict.fromkeys(columns, row) | {"memory_mib": row[0]} for name, row in rows.items()}
    return {"asked_rate": 50.0, "servers": servers}


def make_report(comparison: dict[str, Any]) -> dict[str, Any]:
    return {
        **{"command": "c", "commit": "abc", "date": "2026-11-21", "machine": "m", "bundle": "v"},
        "versions": {"bentoml": "1.0", "litserve": "2.0"},
        "request": {"candidates": 200, "events": 50},
        **{"connections": 8, "seconds": 3.0, "rounds": 3},
        "runs": [summarize_ratios(1, comparison)],
    }


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    comparison = make_comparison([300.0, 200.0, 900.0], [100.0, 50.0, 100.0], [100.0, 100.0, 200.0])
    run = summarize_ratios(1, comparison)
    assert run["ratios"]["bentoml"]["rate"] == 4.0
    assert run["ratios"]["litserve"]["rate"] == 3.0
    assert run["servers"][REELRANK]["rate"] == 300.0
    assert run["better"] == {"name": "litserve", "ratio": 3.0}
    run = summarize_ratios(1, make_comparison([300.0], [200.0], [150.0]))
    assert run["better"] == {"name": "bentoml", "ratio": 1.5}


def test_the_table_has_a_row_for_each_server_and_each_ratio() -> None:
    comparison = make_comparison([300.0, 200.0, 400.0], [100.0, 50.0, 100.0], [100.0, 100.0, 200.0])
    table = render_peers(make_report(comparison))
    assert "| reelrank | 300 | 300.00 | 300.00 | 300.00 | 300 |" in table
    assert "| bentoml 1.0 | 100 | 100.00 |" in table
    assert "| reelrank / litserve | 2.00x |" in table
    assert "**2.00 times** the requests of the faster peer, litserve" in table
    assert "0.25 times those of bentoml per CPU second." in table
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {7}
    for row in comparison["servers"].values():
        row["memory_mib"] = None
    assert render_peers(make_report(comparison)).count("| - |") == 5


# --- environments and processes


@pytest.mark.parametrize("name", READY_PATHS)
def test_all_that_a_peer_needs_is_pinned(name: str) -> None:
    lines = [x for x in requirements(name).read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[\w.\-]+==[\w.]+", line) for line in lines)
    assert pinned_version(name) in requirements(name).read_text()


def test_both_peers_run_the_same_graph_with_the_same_packages() -> None:
    for package in ("onnxruntime", "numpy", "pydantic", "redis", "hiredis", "uvloop", "httptools", "uvicorn"):
        assert pinned_version("bentoml", package) == pinned_version("litserve", package)


def test_an_environment_of_other_requirements_is_not_used(tmp_path: Path) -> None:
    python, origin = tmp_path / "litserve" / "bin" / "python", tmp_path / "litserve" / "requirements.txt"
    python.parent.mkdir(parents=True)
    python.touch()
    assert installed_python("litserve", tmp_path) is None
    origin.write_bytes(requirements("litserve").read_bytes())
    assert installed_python("litserve", tmp_path) == install("litserve", tmp_path) == python
    origin.write_text("litserve==0.1\n")
    assert installed_python("litserve", tmp_path) is None


def test_without_an_index_the_error_has_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # no listener
    monkeypatch.setenv("PIP_RETRIES", "0")
    done = CliRunner().invoke(app, ["--smoke", "--environments", str(tmp_path)])
    assert done.exit_code == 2
    assert "bentoml 1.4.39 cannot be installed: ERROR: " in done.stderr
    assert "name a reachable one with PIP_INDEX_URL, and run this again." in done.stderr
    assert installed_python("bentoml", tmp_path) is None


def test_a_page_without_marks_is_refused_at_once(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing\n")
    done = CliRunner().invoke(app, ["--smoke", "--readme", str(readme)])
    assert (done.exit_code, "no lines <!-- peers -->" in done.stderr) == (2, True)
    done = CliRunner().invoke(app, ["--smoke", "--json", str(tmp_path / "no" / "x.json")])
    assert (done.exit_code, "is no folder" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_peer_gets_no_secret_of_ours_and_tracks_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELRANK_API_KEYS", "secret")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    variables = peer_variables(tmp_path, {"PEER_PORT": "1"})
    assert not {"REELRANK_API_KEYS", "PYTHONHOME"} & set(variables)
    assert variables["BENTOML_DO_NOT_TRACK"] == "True"
    assert variables["PEER_PORT"] == "1"


HIDES = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print("up", flush=True)
time.sleep(99)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_no_process_of_a_server_is_left(tmp_path: Path, error: type[BaseException] | None) -> None:
    """Also one with a session of its own that ignores SIGTERM."""
    try:
        server = ServerProcess([sys.executable, "-c", HIDES], peer_variables(tmp_path, {}), tmp_path / "log")
        with server:
            end = time.monotonic() + 30
            while server.log_end != "up" and time.monotonic() < end:
                time.sleep(0.01)
            pids = server.pids()
            assert len(pids) == 2
            assert sum(map(cpu_ms, pids)) > 0
            assert (pss_mib(pids) or 0) > 1
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        assert error is not None
    assert server.ended
    assert server.pids() == []


@pytest.mark.slow
@pytest.mark.skipif(
    any(installed_python(name) is None for name in READY_PATHS),
    reason="no BentoML and LitServe in runs/peers; `python -m loadtests.peers --smoke` installs them",
)
def test_all_three_servers_agree_and_are_timed() -> None:
    run = compare_servers(version_folder(None), FOLDER, workers=1, seconds=0.2, rounds=1)
    assert set(run["servers"]) == {REELRANK, *READY_PATHS}
    for row in run["servers"].values():
        assert row["rate"] > 0
        assert row["cpu_ms"] > 0
        assert row["p50_ms"] <= row["p99_ms"]
        assert row["memory_mib"] > 20
