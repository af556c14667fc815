"""`python -m loadtests.bench`: latency and memory of one worker on this host, as JSON.

One client with one request at a time on loopback: the time a reply takes, not what the service can carry. The
same run times the bare graphs, which separates the service's share from the model's. It takes under 90 s.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from loadtests.client import BlockingConnection, post, with_calm_deadline
from loadtests.command import BundleOption, make_app, print_report, run
from loadtests.driver import percentiles_ms, time_calls
from loadtests.environment import Service, version_folder
from loadtests.host import cpu_ms, rss_mib
from loadtests.traffic import Traffic, label_requests
from models.features import (
    NO_HISTORY,
    Array,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    feedback_matrix,
    group_ids,
    history_arrays,
    sequence_arrays,
)
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent
from service.pipeline.ranking import ranker_outputs

SEED: Final = 20
USERS: Final = 20
HISTORY: Final = 50
CANDIDATES: Final = 200
SLATES: Final = 100
BATCH: Final = 100
WARM_UP: Final = 50
CALLS: Final = 1000
BATCH_CALLS: Final = 200
SECONDS: Final = 12.0
"""At most for one figure; on a slow host there are fewer calls."""


def main(bundle: BundleOption = None) -> None:
    """Start the service on a free port with an empty store, measure, and print JSON."""
    with tempfile.TemporaryDirectory() as data_dir:
        version = version_folder(bundle)
        with Service(version, Path(data_dir)):
            pass  # the first start of a checkout compiles its modules
        start_s = perf_counter()
        with Service(version, Path(data_dir)) as service, service.http() as http:
            http.get("/health/ready").raise_for_status()
            figures = {"bundle": version.name, "start_to_ready_s": round(perf_counter() - start_s, 3)}
            figures |= measure(service, Bundle.load(version))
            figures["rss_mib"] = rss_mib(service.pid)
    print_report("python -m loadtests.bench", {"figures": figures})


def measure(service: Service, bundle: Bundle) -> dict[str, Any]:
    """Return the figures of a service with an empty store, see loadtests/README.md."""
    traffic = Traffic(SEED, USERS, list(bundle.vocabulary.id_to_index("video_id")))
    users = traffic.users
    slates = [traffic.slate(users[i % USERS], CANDIDATES) for i in range(SLATES)]
    reranks = [post("/rerank", json.dumps(slate).encode()) for slate in slates]
    history = traffic.history_events(HISTORY)
    timings: dict[str, list[bytes]] = {}

    def timed(path: str, requests: Sequence[bytes], calls: int = CALLS) -> dict[str, float]:
        remaining = itertools.cycle([with_calm_deadline(request) for request in requests])
        headers = timings[path] = []

        def call() -> None:
            headers.append(connection.send(next(remaining)).headers.get(b"server-timing", b""))

        return summarize_calls(call, calls, service.pid)

    def labels(names: list[str], calls: int) -> list[bytes]:
        return label_requests(traffic.events(names * (WARM_UP + calls)), len(names))

    hundred = [f"bench{user}" for user in range(BATCH)]
    with BlockingConnection(service.address) as connection:
        for request in label_requests(history, HISTORY):
            connection.send(with_calm_deadline(request))
        figures: dict[str, Any] = {
            "rerank_200_candidates_50_events_ms": timed("rerank", reranks),
            "label_1_event_ms": timed("label", labels(users[:1], CALLS)),
            "label_100_events_of_1_user_ms": timed(
                "label_100", labels(users[:1] * BATCH, BATCH_CALLS), BATCH_CALLS
            ),
            "label_100_events_of_100_users_ms": timed(
                "label_100_users", labels(hundred, BATCH_CALLS), BATCH_CALLS
            ),
        }
    for path in ("rerank", "label_100_users"):
        stages: dict[str, list[float]] = {}
        for stage, ms in re.findall(rb"(\w+);dur=([\d.]+)", b" ".join(timings[path])):
            stages.setdefault(stage.decode(), []).append(float(ms))
        figures[f"{path}_stages_ms"] = {name: round(statistics.median(ms), 3) for name, ms in stages.items()}
    return figures | {
        "bare_ranker_call_ms": summarize_calls(bare_ranker(bundle, slates[0], history[:HISTORY])),
        "bare_labeler_call_100_rows_ms": summarize_calls(bare_label_maker(bundle, history[:BATCH])),
    }


def bare_ranker(bundle: Bundle, slate: dict[str, Any], history: Sequence[bytes]) -> Callable[[], object]:
    """Return a call of the ranker on the arrays of a slate; arguments as for `ranker_inputs`.

    The bundle should have one thread a call, as in the service.
    """
    inputs = ranker_inputs(bundle, slate, history)
    outputs = ranker_outputs(bundle, {}, explain=False)
    return lambda: bundle.run_ranker(inputs, outputs)


def ranker_inputs(bundle: Bundle, slate: dict[str, Any], history: Sequence[bytes]) -> dict[str, Array]:
    """Return the ranker's arrays.

    Args:
        bundle: whose vocabulary and features are used.
        slate: the body of a `POST /rerank`.
        history: the user's events as JSON, oldest first.
    """
    manifest, vocabulary = bundle.manifest, bundle.vocabulary
    exposures = Exposures.from_events([FeedbackEvent(**json.loads(event)) for event in history])
    candidates = Candidates.from_rows([Candidate(**candidate) for candidate in slate["candidates"]])
    context = context_arrays(
        {}, manifest.default_tab, vocabulary, manifest.profile_numbers, manifest.profile_categories
    )
    inputs = sequence_arrays(exposures.newest(manifest.sequence_length), vocabulary, slate["timestamp_ms"])
    if manifest.reads_history:
        inputs |= history_arrays(exposures.older(manifest.sequence_length), NO_HISTORY, vocabulary)
    return inputs | candidate_arrays(candidates, vocabulary, manifest.video_features) | context


def bare_label_maker(bundle: Bundle, events: Sequence[bytes]) -> Callable[[], object]:
    """Return a call of the label maker on the rows of events, which are JSON."""
    rows = [FeedbackEvent(**json.loads(event)) for event in events]
    inputs: dict[str, Array] = {
        "feedback": feedback_matrix(rows),
        "group_ids": group_ids(rows, bundle.vocabulary, {}, bundle.manifest.profile_categories),
    }
    return lambda: bundle.run_labeler(inputs)


def summarize_calls(
    call: Callable[[], object], calls: int = CALLS, pid: int | None = None
) -> dict[str, float]:
    """Time a call after a warm-up.

    Returns:
        `p50` and `p99` in ms, the number of `calls`, and with `pid` that process' processor time a call in
        ms, which other load on the host lengthens less.
    """
    time_calls(call, min(WARM_UP, calls))
    cpu_before_ms = cpu_ms(pid)
    took_s = time_calls(call, calls, SECONDS)
    worker = (
        {} if pid is None else {"cpu_of_the_worker": round((cpu_ms(pid) - cpu_before_ms) / len(took_s), 2)}
    )
    return worker | percentiles_ms(took_s, ("p50", "p99")) | {"calls": len(took_s)}


app = make_app("bench", main)

if __name__ == "__main__":
    run(app)
