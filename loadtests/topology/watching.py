"""Whether Prometheus sees it all: targets, rules, and a series for every query of the dashboard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2

from loadtests.topology.compose import Topology, until
from loadtests.topology.images import ROOT, StepFailed, docker

DASHBOARD: Final = ROOT / "docker" / "grafana" / "dashboards" / "reelrank.json"
RATE_INTERVAL: Final = "1m"
"""In place of Grafana's own `$__rate_interval`."""
STEP_S: Final = 15
TARGETS: Final = {"service": 2, "consumer": 1, "store": 1, "proxy": 1}


def queries(path: Path = DASHBOARD) -> Iterator[tuple[str, str]]:
    """Title of the panel and expression, of every query; those of annotations too."""
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL)
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"].replace("$__rate_interval", RATE_INTERVAL)


def watched(topology: Topology, since: float) -> dict[str, Any]:
    """Ask Prometheus.

    Args:
        topology: after all that was done to it.
        since: when that began, in seconds since the epoch.

    Raises:
        StepFailed: a target is missing, a rule does not load or fails its test, a query has no series.
    """
    with httpx2.Client(base_url=topology.prometheus, timeout=20) as http:
        if not until(lambda: _up(http) == TARGETS, 60):
            raise StepFailed(f"targets that are up: {_up(http)}, not {TARGETS}")
        groups = _asked(http, "/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if sick := [rule["name"] for rule in rules if rule["health"] not in ("ok", "unknown")]:
            raise StepFailed(f"rules that cannot be evaluated: {sick}")
        span = {"start": since, "end": time.time(), "step": STEP_S}
        series = {}
        for title, query in queries():
            found = _asked(http, "/api/v1/query_range", query=query, **span)["result"]
            if not found and "ALERTS" not in query:
                raise StepFailed(f"{title!r} has no series: {query}")
            series[query] = len(found)
    tested = _promtool(topology)
    return {
        "targets_up": TARGETS,
        "rules_loaded": len(rules),
        "alert_tests": tested,
        "queries_with_series": f"{sum(map(bool, series.values()))} of {len(series)}",
    }


def _promtool(topology: Topology) -> str:
    """Rules and their tests, by the promtool that came with the running Prometheus."""
    image = docker("inspect", "-f", "{{.Config.Image}}", topology.container("prometheus")).strip()
    said = docker(
        *(
            "run",
            "--rm",
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--network",
            "none",
            "--workdir",
            "/rules",
            "--entrypoint",
            "sh",
        ),
        *("-v", f"{ROOT / 'docker/prometheus'}:/rules:ro", image),
        *("-c", "promtool check rules rules.yml && promtool test rules rules.test.yml"),
    )
    if said.count("SUCCESS") != 2:
        raise StepFailed(f"promtool: {said}")
    return "SUCCESS"


def _up(http: httpx2.Client) -> dict[str, int]:
    found = _asked(http, "/api/v1/query", query="count by (job) (up == 1)")["result"]
    return {sample["metric"]["job"]: int(sample["value"][1]) for sample in found}


def _asked(http: httpx2.Client, path: str, **parameters: Any) -> Any:
    reply = http.get(path, params=parameters).json()
    if reply["status"] != "success":
        raise StepFailed(f"{path} {parameters.get('query', '')}: {reply['error']}")
    return reply["data"]
