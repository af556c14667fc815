"""What the graph alone costs, against what a request costs: both timed in turn, in one run."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from loadtests.load.connections import patient
from loadtests.program import ProgramFailed
from models.features import Candidates, Exposures, candidate_arrays, context_arrays, sequence_arrays
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent

TURN: Final = 20
"""Requests, then as many bare calls, and so on: whatever else the machine does meets both alike."""
TIMEOUT_S: Final = 10.0


def bare_ranker(
    bundle: Bundle, slate: dict[str, Any], history: Sequence[dict[str, Any]]
) -> Callable[[], None]:
    """A call of the graph on the arrays of such a slate, as a service without any work of its own would
    make it.

    Args:
        bundle: one thread a call, as the service has it.
        slate: the body of a `POST /rerank`.
        history: the user's events, as `POST /label` takes them.
    """
    manifest = bundle.manifest
    events = [FeedbackEvent(**event) for event in history]
    inputs = (
        sequence_arrays(Exposures.from_events(events), bundle.vocabulary, slate["timestamp_ms"])
        | candidate_arrays(
            Candidates.from_rows([Candidate(**c) for c in slate["candidates"]]), bundle.vocabulary
        )
        | context_arrays(
            {},
            manifest.default_tab,
            bundle.vocabulary,
            manifest.profile_numbers,
            manifest.profile_categories,
        )
    )
    outputs = list(dict.fromkeys(("watch_time_s", "watch_ratio", *manifest.objectives)))

    def call() -> None:
        bundle.run_ranker(inputs, outputs)

    return call


def compared(
    address: tuple[str, int], requests: Sequence[bytes], bare: Callable[[], None], rounds: int
) -> tuple[list[float], list[float]]:
    """Requests on one connection, one at a time, and bare calls in turn with them.

    Returns:
        Seconds of the requests, and of the calls.

    Raises:
        ProgramFailed: an answer was not 200.
    """
    requests = [patient(request) for request in requests]
    asked: list[float] = []
    called: list[float] = []
    with OneConnection(address) as connection:
        for number in range(TURN):  # warm
            connection.ask(requests[number % len(requests)])
            bare()
        for turn in range(rounds):
            numbers = range(turn * TURN, (turn + 1) * TURN)
            asked += [connection.ask(requests[number % len(requests)]) for number in numbers]
            for _ in range(TURN):
                start = perf_counter()
                bare()
                called.append(perf_counter() - start)
    return asked, called


class OneConnection:
    """A blocking socket: of all clients it costs the least, so it adds least to what is measured."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address, timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> float:
        """Send one, and read its answer.

        Returns:
            Seconds until its last byte.

        Raises:
            ProgramFailed: the answer is not 200, or has no length.
        """
        start = perf_counter()
        self._socket.sendall(request)
        answer = self._socket.recv(1 << 18)
        head_end = answer.find(b"\r\n\r\n")
        while head_end < 0 and answer:
            more = self._socket.recv(1 << 18)
            answer, head_end = answer + more, (answer + more).find(b"\r\n\r\n")
            if not more:
                break
        at = answer.lower().find(b"content-length: ", 0, head_end)
        if not answer.startswith(b"HTTP/1.1 200 ") or at < 0:
            raise ProgramFailed(f"the service answers {answer[:200]!r}")
        left = head_end + 4 + int(answer[at + 16 : answer.find(b"\r", at)]) - len(answer)
        while left > 0:
            more = self._socket.recv(left)
            if not more:
                raise ProgramFailed("the service hung up in an answer")
            left -= len(more)
        return perf_counter() - start
