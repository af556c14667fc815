"""SIGTERM while there is work: what had begun is answered, and no client can hold the process."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.service.exchanges import Dialogue, head, line
from tests.service.running import START_S, Service, event, eventually, running

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

SLATE = {"user_id": "u", "candidates": [{"video_id": f"v{i}", "duration_s": 9.0} for i in range(50)]}
GRACE_S = 2


class Caller(threading.Thread):
    """One client that asks and asks; remembers when each request began and what became of it."""

    def __init__(self, service: Service, path: str, body: object) -> None:
        super().__init__()
        self._service = service
        self._path = path
        self._body = body
        self.asked: list[tuple[float, int | None]] = []

    def run(self) -> None:
        with self._service.client() as client:
            end = time.monotonic() + START_S
            while time.monotonic() < end:
                began = time.monotonic()
                try:
                    status = client.post(self._path, json=self._body).status_code
                except httpx2.TransportError:
                    self.asked.append((began, None))
                    return
                self.asked.append((began, status))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_under_load_everything_that_had_begun_is_answered(
    bundles: Path, tmp_path: Path, workers: str
) -> None:
    with running(bundles, tmp_path, "--workers", workers, REELRANK_DRAIN_S="0.5") as service:
        calls = [("/rerank", SLATE)] * 3 + [("/label", [event(f"e{i}") for i in range(100)])]
        callers = [Caller(service, path, body) for path, body in calls]
        for caller in callers:
            caller.start()
        assert eventually(lambda: sum(len(caller.asked) for caller in callers) >= 12, START_S)
        signalled = time.monotonic()
        assert service.terminate() == 0
        for caller in callers:
            caller.join()
        assert service.process.stderr is not None
        assert "Traceback" not in service.process.stderr.read()
    asked = [request for caller in callers for request in caller.asked]
    begun = [status for began, status in asked if began < signalled]
    assert len(begun) > 4
    assert set(begun) == {200}
    # Later requests were answered or found no service; never half an answer, never a 5xx.
    assert {status for _, status in asked} <= {200, None}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_client_keeps_the_process_beyond_its_grace(bundles: Path, tmp_path: Path, workers: str) -> None:
    with running(bundles, tmp_path, "--workers", workers, REELRANK_GRACE_S=str(GRACE_S)) as service:
        port = int(service.url.rpartition(":")[2])
        idle, half, deaf = (socket.socket() for _ in range(3))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for sock in (idle, half, deaf):
            sock.connect(("127.0.0.1", port))
        half.sendall(head(100) + b"[")
        ask = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
        deaf.sendall(ask * 40)  # megabytes of answers that it does not read
        stream = Dialogue(service.url)
        stream.say(line("e1", "u") + b"\n")
        stream.headers()
        assert stream.hear()[0]["event_id"] == "e1"
        time.sleep(0.3)
        signalled = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert stream.hear()[0]["status"] == "shutting_down"
        assert service.process.wait(START_S) == 0
        assert time.monotonic() - signalled < GRACE_S + 8  # on a busy machine
        assert service.process.stderr is not None
        assert "Traceback" not in service.process.stderr.read()
        half.settimeout(60)
        assert half.recv(65536).startswith(b"HTTP/1.1 503 ")
        stream.close()
        for sock in (idle, half, deaf):
            sock.close()
