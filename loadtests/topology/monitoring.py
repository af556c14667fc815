"""Checks of Prometheus: targets, rules, and a series for every query of the dashboard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2

from loadtests.environment import wait_until
from loadtests.topology.compose import Topology
from loadtests.topology.images import ROOT, StepFailed, docker, run_in_image

DASHBOARD: Final = ROOT / "docker" / "grafana" / "dashboards" / "reelrank.json"
RATE_INTERVAL: Final = "1m"
"""Replaces Grafana's `$__rate_interval`."""
STEP_S: Final = 15
TARGETS: Final = {"service": 2, "consumer": 1, "store": 1, "proxy": 1}


def dashboard_queries(path: Path = DASHBOARD) -> Iterator[tuple[str, str]]:
    """Yield panel title and expression of every query, those of annotations too."""
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL)
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"].replace("$__rate_interval", RATE_INTERVAL)


def check_monitoring(topology: Topology, since: float) -> dict[str, Any]:
    """Query Prometheus.

    Args:
        topology: after the drills.
        since: their start, in seconds since the epoch.

    Raises:
        StepFailed: a target is missing, a rule does not load or fails its test, a query has no series.
    """
    with httpx2.Client(base_url=topology.prometheus, timeout=20) as http:
        wait_until(lambda: _targets_up(http) == TARGETS, f"targets {TARGETS} are up", 60)
        groups = _query(http, "/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if broken := [rule["name"] for rule in rules if rule["health"] not in ("ok", "unknown")]:
            raise StepFailed(f"rules that cannot be evaluated: {broken}")
        span = {"start": since, "end": time.time(), "step": STEP_S}
        series = {}
        for title, query in dashboard_queries():
            result = _query(http, "/api/v1/query_range", query=query, **span)["result"]
            if not result and "ALERTS" not in query:
                raise StepFailed(f"{title!r} has no series: {query}")
            series[query] = len(result)
    return {
        "targets_up": TARGETS,
        "rules_loaded": len(rules),
        "alert_tests": _test_rules(topology),
        "queries_with_series": f"{sum(map(bool, series.values()))} of {len(series)}",
    }


def _test_rules(topology: Topology) -> str:
    """Run the tests of the rules with the promtool of the running Prometheus."""
    image = docker("inspect", "-f", "{{.Config.Image}}", topology.container("prometheus")).strip()
    rules = f"{ROOT / 'docker/prometheus'}:/rules:ro"
    check = "cd /rules && promtool check rules rules.yml && promtool test rules rules.test.yml"
    output = run_in_image(image, "sh", "-c", check, options=("-v", rules))
    if output.count("SUCCESS") != 2:
        raise StepFailed(f"promtool: {output}")
    return "SUCCESS"


def _targets_up(http: httpx2.Client) -> dict[str, int]:
    samples = _query(http, "/api/v1/query", query="count by (job) (up == 1)")["result"]
    return {sample["metric"]["job"]: int(sample["value"][1]) for sample in samples}


def _query(http: httpx2.Client, path: str, **parameters: Any) -> Any:
    reply = http.get(path, params=parameters).json()
    if reply["status"] != "success":
        raise StepFailed(f"{path} {parameters.get('query', '')}: {reply['error']}")
    return reply["data"]
