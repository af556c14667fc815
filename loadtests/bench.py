"""`python -m loadtests.bench`: speed and memory of one worker on this machine, printed as JSON.

Loopback only, bounded in count and time (well under 90 s); nothing is asserted: a figure is read by people.
One client, one request at a time: this is the time an answer takes, not what the service can carry. The same
run times the bare ONNX calls, so that what the service adds can be told from what the model costs.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.machine import cpu_ms, rss_mib, stamp
from loadtests.program import Program, ProgramFailed, version_folder
from loadtests.steps import label_steps, rerank_steps
from models.errors import BundleNotFound, ReelrankError
from models.features import (
    Array,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    feedback_matrix,
    group_ids,
    sequence_arrays,
)
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent

SEED: Final = 20
USERS: Final = 20
HISTORY: Final = 50
CANDIDATES: Final = 200
NOW_MS: Final = 1_651_330_969_569
WARM_UP: Final = 50
CALLS: Final = 1000
SECONDS: Final = 12.0
"""At most, for one figure; on a slow machine fewer calls are made."""


def main(
    bundle: Annotated[
        Path | None, typer.Option(help="A folder of versions, or one; the released one if left out.")
    ] = None,
) -> None:
    """Start the service on a free port with an empty store, measure, and print JSON."""
    try:
        folder = version_folder(bundle)
    except BundleNotFound as e:
        print(f"bench: {e} Or name another with --bundle.", file=sys.stderr)
        sys.exit(2)
    except ReelrankError as e:
        print(f"bench: {e}", file=sys.stderr)
        sys.exit(2)
    figures: dict[str, Any] = {"bundle": folder.name}
    with tempfile.TemporaryDirectory() as data_dir:
        try:
            with Program(folder, Path(data_dir)):
                pass  # the first start of a checkout compiles its modules
            started = time.perf_counter()
            with Program(folder, Path(data_dir)) as program:
                host, _, port = program.url.removeprefix("http://").rpartition(":")
                client = _Client(host, int(port))
                client.call("GET", "/health/ready")
                figures["start_to_ready_s"] = round(time.perf_counter() - started, 3)
                figures |= _measure(client, folder, program.pid)
                figures["rss_mib"] = rss_mib(program.pid)
        except ProgramFailed as e:
            print(f"bench: {e}", file=sys.stderr)
            sys.exit(2)
    print(json.dumps(stamp("python -m loadtests.bench") | {"figures": figures}, indent=2))


def _measure(client: _Client, folder: Path, pid: int) -> dict[str, Any]:
    rng = random.Random(SEED)
    users = [f"bench-u{u}" for u in range(USERS)]
    for user in users:
        client.call("POST", "/label", {"events": [_event(rng, user, str(i), i) for i in range(HISTORY)]})
    slates = [_slate(rng, users[i % USERS]) for i in range(100)]
    bodies = [json.dumps(slate).encode() for slate in slates]
    ids = iter(range(10**9))
    batches = 100

    stages: dict[str, list[float]] = {}

    def rerank(i: int) -> None:
        client.send("POST", "/rerank", bodies[i % len(bodies)])
        for stage, took in re.findall(r"(\w+);dur=([\d.]+)", client.server_timing):
            stages.setdefault(stage, []).append(float(took))

    def label(size: int) -> Callable[[int], None]:
        def one(i: int) -> None:
            events = [_event(rng, users[i % USERS], f"n{next(ids)}", i) for _ in range(size)]
            client.send("POST", "/label", json.dumps(events).encode())

        return one

    def label_users(i: int) -> None:
        events = [_event(rng, f"bench-w{n}", f"n{next(ids)}", i) for n in range(batches)]
        client.send("POST", "/label", json.dumps(events).encode())

    loaded = Bundle.load(folder)
    ranker, labeler = _bare(loaded, slates[0], rng)
    reranked = _timed(rerank, pid=pid)
    histories = {u: [FeedbackEvent(**_event(rng, u, str(i), i)) for i in range(HISTORY)] for u in users}
    return {
        "rerank_200_candidates_50_events_ms": reranked,
        "rerank_steps_ms": rerank_steps(loaded, histories, slates),
        "rerank_stages_ms": {name: round(statistics.median(took), 3) for name, took in stages.items()},
        "bare_ranker_call_ms": _timed(ranker),
        "label_1_event_ms": _timed(label(1), pid=pid),
        "label_100_events_of_1_user_ms": _timed(label(batches), 200, pid=pid),
        "label_100_events_of_100_users_ms": _timed(label_users, 200, pid=pid),
        "label_100_events_of_100_users_steps_ms": label_steps(
            loaded,
            (
                [_event(rng, f"bench-s{n}", f"s{next(ids)}", i) for n in range(batches)]
                for i in itertools.count()
            ),
        ),
        "bare_labeler_call_100_rows_ms": _timed(labeler),
    }


def _bare(
    bundle: Bundle, slate: dict[str, Any], rng: random.Random
) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """The two graphs alone, on the arrays of the same kind of request."""
    manifest = bundle.manifest
    events = [FeedbackEvent(**_event(rng, "u", str(i), i)) for i in range(HISTORY)]
    candidates = [Candidate(**c) for c in slate["candidates"]]
    inputs = (
        sequence_arrays(Exposures.from_events(events), bundle.vocabulary, NOW_MS)
        | candidate_arrays(Candidates.from_rows(candidates), bundle.vocabulary)
        | context_arrays(
            {},
            manifest.default_tab,
            bundle.vocabulary,
            manifest.profile_numbers,
            manifest.profile_categories,
        )
    )
    outputs = list(dict.fromkeys(("watch_time_s", "watch_ratio", *manifest.objectives)))
    rows: dict[str, Array] = {
        "feedback": feedback_matrix(events * 2),
        "group_ids": group_ids(events * 2, bundle.vocabulary, {}, manifest.profile_categories),
    }
    return (
        lambda i: _ignore(bundle.run_ranker(inputs, outputs)),
        lambda i: _ignore(bundle.run_labeler(rows)),
    )


def _ignore(answer: object) -> None:
    """Only its time is wanted."""


def _timed(call: Callable[[int], None], calls: int = CALLS, *, pid: int | None = None) -> dict[str, float]:
    """Milliseconds a call, after a warm-up; with `pid`, also that process' own, which a busy machine
    lengthens less."""
    for i in range(min(WARM_UP, calls)):
        call(i)
    took: list[float] = []
    cpu = cpu_ms(pid)
    end = time.perf_counter() + SECONDS
    while len(took) < calls and (not took or time.perf_counter() < end):
        before = time.perf_counter()
        call(len(took))
        took.append((time.perf_counter() - before) * 1e3)
    took.sort()
    worked = {} if pid is None else {"cpu_of_the_worker": round((cpu_ms(pid) - cpu) / len(took), 2)}
    return worked | {
        "p50": round(took[len(took) // 2], 3),
        "p99": round(took[int(len(took) * 0.99)], 3),
        "calls": len(took),
    }


def _event(rng: random.Random, user: str, event: str, at: int) -> dict[str, Any]:
    return {
        "event_id": f"{user}-{event}",
        "user_id": user,
        "video_id": str(rng.randrange(7000)),
        "timestamp_ms": NOW_MS - 10_000_000 + at * 60_000,
        "watch_time_s": round(rng.uniform(0, 60), 1),
        "duration_s": round(rng.uniform(5, 120), 1),
        "like": rng.random() < 0.1,
    }


def _slate(rng: random.Random, user: str) -> dict[str, Any]:
    videos = rng.sample(range(7000), CANDIDATES)
    return {
        "user_id": user,
        "timestamp_ms": NOW_MS,
        "candidates": [
            {
                "video_id": str(v),
                "duration_s": round(rng.uniform(5, 120), 1),
                "author_id": str(v % 500),
                "tag": str(v % 40),
            }
            for v in videos
        ],
    }


class _Client:
    """One kept connection; the standard library's client costs least of those at hand."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = HTTPConnection(host, port, timeout=10)
        self.server_timing = ""
        """That header of the last answer: the service's own times, in milliseconds."""

    def send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        answer = reply.read()
        self.server_timing = reply.headers.get("server-timing", "")
        if reply.status != 200:
            raise SystemExit(f"bench: {method} {path} answers {reply.status}: {answer[:300]!r}")
        return answer

    def call(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self.send(method, path, None if body is None else json.dumps(body).encode()))


if __name__ == "__main__":
    typer.run(main)
