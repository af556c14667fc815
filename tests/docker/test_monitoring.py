"""Alerts and dashboard ask for what is really exported, by the labels it really has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import pytest

from loadtests.topology.monitoring import TARGETS, dashboard_queries
from service.stream.metrics import StreamMetrics
from service.telemetry.metrics import Metrics
from tests.docker.files import DOCKER, load, services

EXTERNAL_SERIES: Final = {
    "up", "ALERTS", "redis_memory_used_bytes", "redis_memory_max_bytes", "redis_aof_enabled",
    "redis_aof_last_write_status", "haproxy_frontend_http_responses_total",
    "haproxy_backend_agg_server_check_status",
}  # fmt: skip
"""Of Prometheus, the store's exporter and the proxy: `make docker-test` asks those for them."""
ADDED: Final = {"job", "instance", "le"}
"""Labels that Prometheus brings."""

SERIES: Final = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?")
WORDS: Final = {
    "sum",
    "rate",
    "by",
    "max",
    "count",
    "increase",
    "deriv",
    "changes",
    "histogram_quantile",
    "time",
}
WORDS_BETWEEN: Final = {"and", "or"}


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Labels by name of the series, of the service and of the consumer."""
    metrics = Metrics()
    StreamMetrics(metrics.registry)
    series: dict[str, set[str]] = {"reelrank_drift_psi": {"what"}}
    for metric, names in metrics.registry._collector_to_names.items():
        labels = set(getattr(metric, "_labelnames", ()))
        series |= dict.fromkeys(names, labels)
    return series


def rules() -> list[dict[str, Any]]:
    return [rule for group in load(DOCKER / "prometheus" / "rules.yml")["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    yield from dashboard_queries()
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


def series_of(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Names of series and the labels that are matched."""
    bare = re.sub(r"\[[^]]*\]|\b(?:by|without|on|ignoring) \([^)]*\)", "", expression)
    for name, matchers in SERIES.findall(bare):
        if name not in WORDS | WORDS_BETWEEN:
            yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def test_every_series_that_is_asked_for_is_exported_with_these_labels(exported: dict[str, set[str]]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    unknown = []
    for title, expression in expressions():
        for name, labels in series_of(expression):
            if name in recorded or name in EXTERNAL_SERIES:
                continue
            if name not in exported or not labels <= exported[name] | ADDED:
                unknown.append(f"{title}: {name} {labels}")
    assert not unknown


def test_what_is_grouped_by_is_a_label(exported: dict[str, set[str]]) -> None:
    unknown = []
    for title, expression in expressions():
        own = {label for name, _ in series_of(expression) for label in exported.get(name, set())}
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            given = {label.strip() for label in labels.split(",")}
            if not given <= own | ADDED | {"code", "state"}:
                unknown.append(f"{title}: {given}")
    assert not unknown


def test_the_check_would_notice_a_name_that_is_none(exported: dict[str, set[str]]) -> None:
    assert "reelrank_request_total" not in exported
    assert list(series_of('sum by (route) (rate(reelrank_request_total{route="/label"}[5m]))')) == [
        ("reelrank_request_total", {"route"})
    ]


def test_every_alert_says_how_bad_and_what_it_is() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 15
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"].endswith((".", ". "))
    names = [alert["alert"] for alert in alerts]
    assert len(names) == len(set(names))


def test_a_burn_is_looked_at_over_two_windows_that_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    burns = [rule for rule in rules() if "Burn" in rule.get("alert", "")]
    assert len(burns) == 8
    for burn in burns:
        used = re.findall(r"reelrank:\w+:ratio_rate(\w+)", burn["expr"])
        assert len(set(used)) == 2
        assert {name for name, _ in series_of(burn["expr"])} <= recorded


@pytest.mark.slow
def test_the_rules_and_their_own_tests_pass() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here; `make docker-test` runs the one that Prometheus brings")
    for command in (["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]):
        done = subprocess.run(
            ["promtool", *command],
            cwd=DOCKER / "prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_important_alerts_have_a_test() -> None:
    tests = load(DOCKER / "prometheus" / "rules.test.yml")["tests"]
    tested = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert {"FaultsBurn1h", "SlowSlatesBurn1h", "ReplicaDown", "DegradedSlates", "Drift"} <= tested
    assert {"StoreMemoryHigh", "ConsumerLag"} <= tested


def test_prometheus_scrapes_every_part_under_its_name() -> None:
    config = load(DOCKER / "prometheus" / "prometheus.yml")
    jobs: dict[str, list[str]] = {}
    for job in config["scrape_configs"]:
        targets = [t for given in job.get("static_configs", ()) for t in given["targets"]]
        if "file_sd_configs" in job:
            targets = [
                t
                for name in ("cpu", "gpu")
                for given in json.loads((DOCKER / "prometheus" / "replicas" / f"{name}.json").read_text())
                for t in given["targets"]
            ]
            assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
        jobs[job["job_name"]] = targets
    assert set(jobs) == set(TARGETS)
    parts = {target.partition(":")[0] for targets in jobs.values() for target in targets}
    assert parts <= set(services())
    assert {name for name in services() if name.startswith("service-")} <= parts


# --- the dashboard


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "reelrank.json").read_text())
    return content


def test_panels_are_what_grafana_reads() -> None:
    """The members that its JSON schema asks of panels and targets, and a grid without overlaps."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    occupied: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in ("row", "stat", "timeseries", "table")
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & occupied, panel["title"]
        occupied |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
            assert panel["targets"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_its_data_source_is_the_provisioned_one_and_it_is_provisioned_itself() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = load(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert source["uid"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    (provider,) = load(provisioning / "dashboards" / "reelrank.yml")["providers"]
    mounted = " ".join(services()["grafana"]["volumes"])
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounted


def test_it_shows_what_an_operator_asks_for() -> None:
    shown = " ".join(query for _, query in dashboard_queries())
    for name in (
        *("requests_total", "request_seconds_bucket", "refusals_total", "degraded_total", "bundle_info"),
        *("drift_psi", "stream_lag", "store_breaker_state", "events_total"),
    ):
        assert f"reelrank_{name}" in shown
    assert "redis_memory_used_bytes" in shown
    assert "label[.].+" in shown
    assert "ranker[.].+" in shown
