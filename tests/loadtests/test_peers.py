"""The comparison with other servers: what it computes, what it refuses, and what it leaves behind."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from loadtests.load.connections import post
from loadtests.peers.__main__ import main, run
from loadtests.peers.environments import environment, installed, requirements, version
from loadtests.peers.processes import Peer, members, memory_mib, new_mark, worked_ms
from loadtests.peers.ranking import Ranker, Request
from loadtests.peers.rounds import Pace, PeerFailed, PeersDiffer, agree, compare, difference
from loadtests.peers.servers import OURS, READY, Server, variables
from loadtests.peers.traffic import CANDIDATES, HISTORY, histories, slates
from loadtests.program import version_folder
from models.features import Candidates, Exposures
from models.manifest import VOCABULARY
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent
from models.vocabulary import Vocabulary
from service.pipeline.ranking import RankingContext, rank
from tests.conftest import ROOT

app = typer.Typer()
app.command()(main)

SLATE = {
    "items": [
        {"video_id": "a", "rank": 1, "score": 0.5, "watch_time_s": 10.0},
        {"video_id": "b", "rank": 2, "score": 0.25, "watch_time_s": 4.0},
    ]
}
SMALL = Pace(seconds=0.2, rounds=1, users=2, slates=5, workers=(1,))


def test_equal_slates_do_not_differ_and_rounding_is_let_pass() -> None:
    other = json.loads(json.dumps(SLATE))
    other["items"][0]["score"] += 4e-6
    other["items"][0]["watch_time_s"] *= 1 + 4e-6
    assert difference(SLATE, other) is None


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("score", 0.5001, "score of a"),
        ("watch_time_s", 10.01, "watch_time_s of a"),
        ("video_id", "c", "rank 1 is c"),
        ("rank", 3, "rank 3 is a"),
    ],
)
def test_each_member_of_an_item_is_compared(member: str, value: object, said: str) -> None:
    other = json.loads(json.dumps(SLATE))
    other["items"][0][member] = value
    assert said in (difference(SLATE, other) or "")


def test_a_slate_that_is_shorter_differs() -> None:
    assert difference(SLATE, {"items": SLATE["items"][:1]}) == "1 items, not 2"


@contextmanager
def answering(name: str, status: int, body: object) -> Iterator[Server]:
    """A server that always says the same."""
    content = json.dumps(body).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Server(name, ("127.0.0.1", server.server_address[1]), new_mark())
        finally:
            server.shutdown()
            thread.join()


def test_nothing_is_timed_before_all_answer_alike() -> None:
    other = {"items": SLATE["items"][::-1]}
    with (
        answering(OURS, 200, SLATE) as ours,
        answering("bentoml", 200, SLATE) as same,
        answering("litserve", 200, other) as differs,
    ):
        agree([ours, same], [{}])
        with pytest.raises(PeersDiffer, match="litserve does not answer as reelrank does: rank 2 is b"):
            agree([ours, same, differs], [{}])


def test_a_peer_that_breaks_down_gives_no_figure() -> None:
    with answering(OURS, 200, SLATE) as ours, answering("litserve", 500, {"detail": "broken"}) as broken:
        with pytest.raises(PeerFailed, match=r"litserve answers 500.*broken"):
            agree([ours, broken], [{}])
        with pytest.raises(PeerFailed, match=r"litserve answered \{500: "):
            compare([ours, broken], [post("/rerank", b"{}")], SMALL)


def test_every_server_has_a_figure_for_each_round() -> None:
    pace = Pace(seconds=0.2, rounds=2, users=1, slates=1, workers=(1,))
    with answering(OURS, 200, SLATE) as ours, answering("litserve", 200, SLATE) as peer:
        found = compare([ours, peer], [post("/rerank", b"{}")], pace)
    for of in found["servers"].values():
        assert {name: len(of[name]) for name in ("rate", "cpu_ms", "p50_ms", "p99_ms")} == dict.fromkeys(
            ("rate", "cpu_ms", "p50_ms", "p99_ms"), 2
        )
        assert all(value > 0 for value in (*of["rate"], *of["p50_ms"]))


@pytest.fixture(scope="module")
def folder() -> Path:
    return version_folder(None)


@pytest.fixture(scope="module")
def videos(folder: Path) -> list[str]:
    return list(Vocabulary.read(folder / VOCABULARY).id_to_index("video_id"))


def test_the_peers_rank_as_the_service_does(folder: Path, videos: list[str]) -> None:
    bundle, ranker, known = Bundle.load(folder), Ranker(folder), histories(3, videos)
    for body in slates(4, 4, videos):  # the fourth user has no history
        events = known.get(body["user_id"])
        history = None if events is None else json.dumps(events).encode()
        found = ranker.rank(Request.model_validate(body), history)
        candidates = Candidates.from_rows([Candidate(**c) for c in body["candidates"]])
        exposures = Exposures.from_events([FeedbackEvent(**e) for e in events or []])
        context = RankingContext(candidates, exposures, {}, None, body["timestamp_ms"])
        slate = rank(bundle, context, bundle.manifest.weights)
        wanted = [
            {
                "video_id": body["candidates"][i]["video_id"],
                "rank": position,
                "score": float(slate.score[i]),
                "watch_time_s": float(slate.watch_time_s[i]),
            }
            for position, i in enumerate(slate.order, 1)
        ]
        assert difference({"items": wanted}, {"items": found}) is None


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 20), users=st.integers(1, 5))
def test_traffic_is_the_same_each_time_and_of_the_promised_size(
    videos: list[str], count: int, users: int
) -> None:
    bodies = slates(count, users, videos)
    assert bodies == slates(count, users, videos)
    known = histories(users, videos)
    assert {len(events) for events in known.values()} == {HISTORY}
    for body in bodies:
        assert body["user_id"] in known
        assert len({c["video_id"] for c in body["candidates"]}) == CANDIDATES
        assert all(set(c) == {"video_id", "duration_s", "author_id", "tag"} for c in body["candidates"])


@pytest.mark.parametrize("name", READY)
def test_all_that_a_peer_needs_is_pinned(name: str) -> None:
    lines = [x for x in requirements(name).read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[\w.\-]+==[\w.]+", line) for line in lines)
    assert version(name) in requirements(name).read_text()


def test_both_peers_run_the_same_graph_with_the_same_packages() -> None:
    for package in ("onnxruntime", "numpy", "pydantic", "redis", "hiredis", "uvloop", "httptools", "uvicorn"):
        assert version("bentoml", package) == version("litserve", package)


def test_an_environment_of_other_requirements_is_not_taken(tmp_path: Path) -> None:
    python = tmp_path / "litserve" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert installed("litserve", tmp_path) is None
    made_of = tmp_path / "litserve" / "requirements.txt"
    made_of.write_bytes(requirements("litserve").read_bytes())
    assert installed("litserve", tmp_path) == environment("litserve", tmp_path) == python
    made_of.write_text("litserve==0.1\n")
    assert installed("litserve", tmp_path) is None


def test_without_an_index_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # where nobody listens
    monkeypatch.setenv("PIP_RETRIES", "0")
    done = CliRunner().invoke(app, ["--smoke", "--environments", str(tmp_path)])
    assert done.exit_code == 2
    assert "bentoml 1.4.39 cannot be installed: ERROR: " in done.stderr
    assert "name one that it reaches with PIP_INDEX_URL, and run this again." in done.stderr
    assert installed("bentoml", tmp_path) is None


def test_a_file_without_a_place_for_the_table_is_refused_at_once(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing\n")
    done = CliRunner().invoke(app, ["--smoke", "--readme", str(readme)])
    assert done.exit_code == 2
    assert f"{readme}: has no lines <!-- peers -->" in done.stderr
    done = CliRunner().invoke(app, ["--smoke", "--json", str(tmp_path / "no" / "x.json")])
    assert done.exit_code == 2
    assert "is no folder" in done.stderr


def test_a_peer_is_told_nothing_of_ours_and_tells_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELRANK_API_KEYS", "secret")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    found = variables(tmp_path, {"PEER_PORT": "1"})
    assert "REELRANK_API_KEYS" not in found
    assert "PYTHONHOME" not in found
    assert found["BENTOML_DO_NOT_TRACK"] == "True"
    assert found["PEER_PORT"] == "1"


HIDES = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print("up", flush=True)
time.sleep(99)
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("how", ["the end", "a failure", "an interrupt"])
def test_nothing_of_a_peer_is_left(tmp_path: Path, how: str) -> None:
    """Also what has a session of its own and does not end when it is asked to."""
    raised = {"a failure": RuntimeError, "an interrupt": KeyboardInterrupt}.get(how)
    try:
        log = tmp_path / "log"
        with Peer([sys.executable, "-c", HIDES], variables(tmp_path, {}), tmp_path, log) as peer:
            end = time.monotonic() + 30
            while peer.last_words != "up" and time.monotonic() < end:
                time.sleep(0.01)
            running = members(peer.mark)
            assert len(running) == 2
            assert worked_ms(running) > 0
            assert (memory_mib(running) or 0) > 1
            if raised is not None:
                raise raised
    except (RuntimeError, KeyboardInterrupt):
        assert raised is not None
    assert peer.ended
    assert members(peer.mark) == []


@pytest.mark.skipif(
    any(installed(name) is None for name in READY),
    reason="no BentoML and LitServe in runs/peers; `python -m loadtests.peers --smoke` installs them",
)
def test_all_three_answer_alike_and_are_timed(folder: Path) -> None:
    before = _processes()
    found = run(folder, ROOT / "runs" / "peers", SMALL)
    (only,) = found["runs"]
    assert set(only["servers"]) == {OURS, *READY}
    for of in only["servers"].values():
        assert of["rate"] > 0
        assert of["cpu_ms"] > 0
        assert of["p50_ms"] <= of["p99_ms"]
        assert of["memory_mib"] > 20
    assert set(only["ratios"]) == set(READY)
    assert _processes() <= before


def _processes() -> set[str]:
    """Those that run from the peers' environments."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return {line for line in listed.splitlines() if str(ROOT / "runs" / "peers") in line}
