"""The topology of docker/compose.yaml under a name, ports, secrets and bundles of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from loadtests.faults.ledger import Ledger
from loadtests.faults.load import FULL, Load
from loadtests.faults.stage import two_versions
from loadtests.program import version_folder
from loadtests.topology.images import ROOT, StepFailed, docker

FILE: Final = ROOT / "docker" / "compose.yaml"
PROJECT: Final = "reelrank-test"
PARTS: Final = ("redis", "service-a", "service-b", "consumer", "proxy", "redis-exporter", "prometheus")
"""All but Grafana, whose image only a registry has."""
PACE: Final = replace(FULL, rate=10, before_s=2.0, quiet_s=3.0, limit_s=60.0)
DEADLINE_MS: Final = "1500"
"""Of slates: what is looked at is whether they are answered, on machines that do much else, too."""
WAIT_S: Final = 90.0


class ByRight(httpx2.Auth):
    """Each request with the key that may do it: one key for labels and slates, another for the rest."""

    def __init__(self, client: str, admin: str) -> None:
        self._client = client
        self._admin = admin

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["Authorization"] = (
            f"Bearer {self._client if request.method == 'POST' else self._admin}"
        )
        yield request


class Topology:
    """Secrets, bundles and settings in a folder of their own; containers and volumes go with it at the end.

    Args:
        images: variables of compose.yaml that name images.
        grafana: whether its image can be had.
        keep: leave everything running at the end.

    Attributes:
        url, prometheus: where they answer.
        bundles: a folder of two versions of the released graphs; the first is active.
        env: what compose.yaml and the commands of README.md are run with.
    """

    def __init__(self, images: Mapping[str, str], *, grafana: bool, keep: bool = False) -> None:
        self.parts: Final = (*PARTS, "grafana") if grafana else PARTS
        self._keep = keep
        self._numbers = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="topology-"))
        self.secrets: Final = self._folder / "secrets"
        self.bundles: Final = two_versions(version_folder(None), self._folder / "bundles")
        ports = {name: str(free_port()) for name in ("PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")}
        self.url: Final = f"http://127.0.0.1:{ports['PORT']}"
        self.prometheus: Final = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}"
        self.env: Final = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REELRANK_")},
            **{"COMPOSE_PROJECT_NAME": PROJECT, "SECRETS": str(self.secrets), "BUNDLES": str(self.bundles)},
            **{
                "HOME": str(self._folder),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            **ports,
            **images,
        }
        # The client's own settings stay those of the user.
        self.env["DOCKER_CONFIG"] = os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keep:
            print(f"topology: still running at {self.url}, {self.prometheus}; files in {self._folder}")
            return
        self.sh("dc down --volumes --remove-orphans")
        shutil.rmtree(self._folder)

    def sh(self, commands: str, *, limit_s: float = 300) -> str:
        """Commands as in README.md, with `operate.sh` sourced. Returns standard output and error together.

        Raises:
            StepFailed: one of them failed; with its last words.
        """
        script = f"set -eu\n. docker/operate.sh\n{commands}"
        try:
            done = subprocess.run(
                ["nice", "-n", "5", "bash", "-c", script],  # beside replicas that are being measured
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StepFailed(f"took more than {limit_s:g} s: {commands}") from None
        if done.returncode:
            raise StepFailed(f"exit code {done.returncode}: {commands}\n{done.stdout[-3000:]}")
        return done.stdout

    def container(self, part: str) -> str:
        """The id of its container, running or not."""
        labels = (f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={part}")
        given = [word for label in labels for word in ("--filter", f"label={label}")]
        found = docker("ps", "-aq", *given).split()
        if len(found) != 1:
            raise StepFailed(f"{part} has {len(found)} containers")
        return found[0]

    def kill(self, part: str) -> None:
        """SIGKILL; it is not started again by itself."""
        docker("kill", self.container(part))

    def start(self, part: str) -> None:
        docker("start", self.container(part))

    def healthy(self, *parts: str) -> None:
        """Wait until their health checks say so; those without one must run.

        Raises:
            StepFailed: one does not get there; with the end of its log.
        """
        shown = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
        for part in parts:
            name = self.container(part)
            if not until(
                lambda name=name: docker("inspect", "-f", shown, name).strip() in ("healthy", "running")  # type: ignore[misc]
            ):
                said = subprocess.run(
                    ["docker", "logs", "--tail", "20", name], capture_output=True, text=True, check=False
                )
                raise StepFailed(f"{part} is not healthy: {said.stdout}{said.stderr}")

    def key(self, name: str) -> str:
        return (self.secrets / f"key_{name}").read_text()

    def http(self) -> httpx2.Client:
        """To the service, through the proxy."""
        auth = ByRight(self.key("client"), self.key("admin"))
        return httpx2.Client(base_url=self.url, auth=auth, timeout=15)

    def ledger(self, name: str) -> Ledger:
        """One of its own, however often a drill is repeated."""
        return Ledger(f"{name}-{next(self._numbers)}")

    def load(self, name: str, *, key: str | None = None, **options: Any) -> Load:
        """A load on the proxy, whose client retries once."""
        headers = {"Authorization": f"Bearer {key or self.key('client')}", "X-Deadline-Ms": DEADLINE_MS}
        return Load(self.url, headers, self.ledger(name), PACE, retries=1, **options)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def until(holds: Callable[[], bool], limit_s: float = WAIT_S) -> bool:
    """Ask until it holds. Returns whether it came to that."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
