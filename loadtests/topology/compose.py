"""The topology of docker/compose.yaml with a project name, ports, secrets and bundles of its own."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import httpx2

from loadtests.environment import copy_as_two_versions, version_folder
from loadtests.faults.background_load import FULL, BackgroundLoad
from loadtests.faults.ledger import Ledger
from loadtests.host import free_port
from loadtests.topology.images import ROOT, StepFailed, docker

README: Final = ROOT / "docker" / "README.md"
PROJECT: Final = "reelrank-test"
PARTS: Final = ("redis", "service-a", "service-b", "consumer", "proxy", "redis-exporter", "prometheus")
"""All but Grafana, whose image only a registry has."""
PROFILE: Final = replace(FULL, rate=10, before_s=2.0, quiet_s=3.0, limit_s=60.0)
DEADLINE_MS: Final = "1500"
"""Of slates: what is checked is that they are answered, also on a busy host."""
WAIT_S: Final = 90.0


class KeyPerMethod(httpx2.Auth):
    """One key for labels and slates, another for the rest."""

    def __init__(self, client: str, admin: str) -> None:
        self._client = client
        self._admin = admin

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        key = self._client if request.method == "POST" else self._admin
        request.headers["Authorization"] = f"Bearer {key}"
        yield request


class Topology:
    """Containers and volumes, with secrets and bundles in a folder; all of it is removed at the end.

    Args:
        images: variables of compose.yaml that name images.
        grafana: start it too.
        keep: leave everything running at the end.

    Attributes:
        url, prometheus: of the proxy and of Prometheus.
        bundles: a folder of two versions of the released graphs; the first is active.
        env: of compose.yaml and of the commands of README.md.
    """

    def __init__(self, images: Mapping[str, str], *, grafana: bool, keep: bool = False) -> None:
        self.parts: Final = (*PARTS, "grafana") if grafana else PARTS
        self._keep = keep
        self._numbers = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="topology-"))
        self.secrets: Final = self._folder / "secrets"
        self.bundles: Final = copy_as_two_versions(version_folder(None), self._folder / "bundles")
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
        # The settings of the docker client stay those of the user.
        self.env["DOCKER_CONFIG"] = os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._keep:
            print(f"topology: still running at {self.url}, {self.prometheus}; files in {self._folder}")
            return
        self.sh("dc down --volumes --remove-orphans")
        shutil.rmtree(self._folder)

    def sh(self, commands: str, *, limit_s: float = 300) -> str:
        """Run commands as in README.md, with `operate.sh` sourced; return standard output and error.

        Raises:
            StepFailed: one of them failed; with the end of its output.
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

    def run_page(self, name: str) -> str:
        """Run a named block of README.md, as `sh` does."""
        return self.sh(readme_commands()[name])

    def container(self, part: str) -> str:
        """Return the id of a part's container, running or not."""
        labels = (f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={part}")
        ids = docker("ps", "-aq", *(w for label in labels for w in ("--filter", f"label={label}"))).split()
        if len(ids) != 1:
            raise StepFailed(f"{part} has {len(ids)} containers")
        return ids[0]

    def kill(self, part: str) -> None:
        """Send SIGKILL; it is not restarted by itself."""
        docker("kill", self.container(part))

    def start(self, part: str) -> None:
        """Start it again."""
        docker("start", self.container(part))

    def wait_until_healthy(self, *parts: str) -> None:
        """Wait for the parts' health checks; those without one must run.

        Raises:
            StepFailed: one does not get there; with the end of its log.
        """
        state = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
        for part in parts:
            name = self.container(part)
            end = time.monotonic() + WAIT_S
            while docker("inspect", "-f", state, name).strip() not in ("healthy", "running"):
                if time.monotonic() > end:
                    log = self.sh(f"docker logs --tail 20 {name} 2>&1")
                    raise StepFailed(f"{part} is not healthy: {log}")
                time.sleep(0.2)

    def key(self, name: str) -> str:
        """Return an API key."""
        return (self.secrets / f"key_{name}").read_text()

    def http(self) -> httpx2.Client:
        """Return a client of the service, through the proxy."""
        auth = KeyPerMethod(self.key("client"), self.key("admin"))
        return httpx2.Client(base_url=self.url, auth=auth, timeout=15)

    def ledger(self, name: str) -> Ledger:
        """Return a new ledger, also where a drill is repeated."""
        return Ledger(f"{name}-{next(self._numbers)}")

    def load(self, name: str, *, key: str | None = None, **options: Any) -> BackgroundLoad:
        """Return a load on the proxy, whose client retries once."""
        headers = {"Authorization": f"Bearer {key or self.key('client')}", "X-Deadline-Ms": DEADLINE_MS}
        host, _, port = self.url.removeprefix("http://").partition(":")
        address, ledger = (host, int(port)), self.ledger(name)
        return BackgroundLoad(address, ledger, PROFILE, headers, retries=1, **options)


def readme_commands() -> dict[str, str]:
    """Return the named blocks of docker/README.md: ```` ```sh NAME ````."""
    return dict(re.findall(r"^```sh ([\w-]+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL))
