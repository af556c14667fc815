"""Drills on the running topology, what must hold afterwards, and the pages of docker/README.md carried out.

This file is long because all drills are in it, in the order they run, each one whole.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import httpx2

from loadtests.environment import FIRST, SECOND, wait_until
from loadtests.faults.background_load import BackgroundLoad
from loadtests.faults.ledger import START_MS, Ledger
from loadtests.topology.compose import DEADLINE_MS, WAIT_S, Topology
from loadtests.topology.images import HostTooBusy, StepFailed, docker

REPLICAS: Final = ("service-a", "service-b")
PUBLISHED: Final = ("proxy", "prometheus", "grafana")
STREAM_ENTRIES: Final = 200
"""One of them is no event."""
USERS: Final = 200
"""Users whose mean memory is measured."""
SENDERS: Final = 4
EVENTS: Final = 10
"""Closed loops of labels, and the events of one body."""
NO_REPLICA: Final = "No replica is ready"
"""The reply of the proxy; a replica that refuses has another."""

Figures = dict[str, Any]


def require(condition: object, otherwise: str) -> None:
    """Raise `StepFailed` unless a condition holds."""
    if not condition:
        raise StepFailed(otherwise)


def assert_slo_held(topology: Topology, load: BackgroundLoad) -> Figures:
    """Check that every request was answered, retried once at most, and every acknowledged event is stored."""
    outcomes = load.outcomes()
    failed = {outcome: count for outcome, count in outcomes.items() if not outcome.startswith("200")}
    if failed:
        errors = Counter(answer.error for answer in load.answers if answer.error).most_common(2)
        refused = set(failed) <= {"429", "503"} and not any(NO_REPLICA in error for error, _ in errors)
        kind = HostTooBusy if refused else StepFailed
        raise kind(f"failed after a retry: {failed} of {len(load.answers)}; {errors}")
    with topology.http() as http:
        count = load.ledger.check(http)
    require(count.losses == count.duplicates == 0, f"{count}")
    return {
        "requests": len(load.answers),
        "retried_once": sum(answer.tries > 1 for answer in load.answers),
        "failed": 0,
        "degraded_slates": outcomes["200 degraded"],
        "events": count.acknowledged,
        "lost": 0,
    }


def _send(http: httpx2.Client, ledger: Ledger, events: int) -> None:
    for _ in range(events // 50):
        batch = ledger.batch(50)
        ledger.settle(batch, http.post("/label", json=batch).raise_for_status().json())


def _label_rate(load: BackgroundLoad, seconds: float = 5.0) -> float:
    """Return the events a second that a running load gets acknowledged."""
    before, start_s = load.ledger.acknowledged, time.monotonic()
    time.sleep(seconds)
    return (load.ledger.acknowledged - before) / (time.monotonic() - start_s)


def start(topology: Topology) -> Figures:
    """Make secrets and start everything at once, until all health checks pass."""
    topology.sh("sh docker/secrets.sh && dc config -q")
    before = time.monotonic()
    topology.sh(f"dc up -d --no-build {' '.join(topology.parts)}")
    topology.wait_until_healthy(*topology.parts)
    topology.sh("ready a && ready b")
    return {"healthy": list(topology.parts), "after_s": round(time.monotonic() - before, 1)}


def check_hardening(topology: Topology) -> Figures:
    """No container is root or writes to its root; the store has no port and obeys its users only."""
    for part in topology.parts:
        (container,) = json.loads(docker("inspect", topology.container(part)))
        user = container["Config"]["User"].partition(":")[0]
        require(user not in ("", "0", "root"), f"{part} runs as {user or 'root'}")
        require(container["HostConfig"]["ReadonlyRootfs"], f"{part} can write to its root")
        require(container["HostConfig"]["CapDrop"] == ["ALL"], f"{part} has capabilities")
        published = any(container["NetworkSettings"]["Ports"].values())
        require(published == (part in PUBLISHED), f"{part} publishes a port, or does not")
        values = " ".join(container["Config"]["Env"])
        for secret in topology.secrets.iterdir():
            require(secret.read_text().strip() not in values, f"{part} has {secret.name} in a variable")
    refused = topology.sh("dc exec -T redis redis-cli GET rr:s:{ann} 2>&1")
    require("NOAUTH" in refused, f"the store can be read without a password: {refused}")
    service = "dc exec -T redis redis-cli -u redis://reelrank:{}@127.0.0.1:6379 CONFIG GET '*' 2>&1"
    refused = topology.sh(service.format((topology.secrets / "password_service").read_text()))
    require("NOPERM" in refused, f"the service may configure the store: {refused}")
    policy = topology.sh("store CONFIG GET maxmemory-policy; store CONFIG GET appendfsync")
    require("noeviction" in policy and "always" in policy, f"the store has another policy: {policy}")
    return {
        "not_root": True,
        "read_only": True,
        "published": ["proxy", "prometheus"],
        "store": "obeys its users only",
    }


def label_and_slate(topology: Topology) -> Figures:
    """A label, slates of either replica that include it, and what is refused."""
    event = {"event_id": "e1", "user_id": "ann", "video_id": "7", "timestamp_ms": START_MS}
    event |= {"watch_time_s": 48.4, "duration_s": 24.0}
    slate = {"user_id": "ann", "candidates": [{"video_id": "21", "duration_s": 20.0}, {"video_id": "22"}]}
    with topology.http() as http:
        label = http.post("/label", json=event).raise_for_status().json()
        http.headers["X-Deadline-Ms"] = DEADLINE_MS
        lengths = [
            http.post("/rerank", json=slate).raise_for_status().json()["history_length"] for _ in range(6)
        ]
        require(label["accepted"] == 1 and set(lengths) == {1}, f"{label}, histories {lengths}")
        again = http.post("/label", json=event).raise_for_status().json()
        require(again["duplicates"] == 1, f"an event was taken twice: {again}")
        statuses = {path: http.get(path).status_code for path in ("/metrics", "/v1/models", "/docs")}
        require(set(statuses.values()) == {404}, f"served to the outside: {statuses}")
        statuses = {
            "no key": httpx2.post(f"{topology.url}/label", json=event).status_code,
            "no event": http.post("/label", json={"event_id": "e"}).status_code,
        }
        require(list(statuses.values()) == [401, 422], f"{statuses}")
    return {"label": label["labels"][0]["label"], "slates_know_of_it": "6 of 6", "refused": statuses}


def kill_replica(topology: Topology) -> Figures:
    """SIGKILL of one of two replicas under load: a client that retries once sees no error."""

    def restart() -> None:
        topology.start("service-a")
        topology.sh("ready a")

    with topology.load("killed") as load:
        load.during(lambda: topology.kill("service-a"), restart)
    return assert_slo_held(topology, load)


def freeze_replica(topology: Topology) -> Figures:
    """A replica without replies: slates and labels go to the other one."""
    name = topology.container("service-b")
    with topology.load("frozen") as load:
        load.during(lambda: docker("pause", name), lambda: (docker("unpause", name), topology.sh("ready b")))
    return assert_slo_held(topology, load)


def kill_store(topology: Topology) -> Figures:
    """SIGKILL of the store under closed loops of labels and an open loop of slates."""

    def restart() -> None:
        topology.start("redis")
        topology.wait_until_healthy("redis")

    closed_loops = topology.load("flat", senders=SENDERS, events=EVENTS)
    with closed_loops as flat, topology.load("slates") as slates:
        rate = _label_rate(flat)
        slates.during(lambda: topology.kill("redis"), restart)
    with topology.http() as http:
        count = flat.ledger.check(http)
    require(count.losses == count.duplicates == 0, f"{count}")
    answers = Counter(answer.outcome for answer in slates.answers if answer.path == "/rerank")
    require(set(answers) <= {"200", "200 degraded"} and answers["200 degraded"] > 0, f"slates: {answers}")
    return {
        "acknowledged": count.acknowledged,
        "lost": 0,
        "doubled": 0,
        "slates": dict(answers),
        "well_again_s": round(slates.recovered_s() or 0.0, 1),
        "events_a_second_before": round(rate),
    }


def change_bundle(topology: Topology) -> Figures:
    """Promote another version for both replicas and roll back, under load."""
    took = {}
    with topology.load("bundle") as load, topology.http() as http:
        for page, version in (("new-bundle", SECOND), ("bundle-back", FIRST)):
            time.sleep(2)
            topology.run_page(page)
            before = time.monotonic()
            wait_until(partial(_all_serve, topology, version), f"every replica serves {version}", WAIT_S)
            took[page.replace("-", "_") + "_s"] = round(time.monotonic() - before, 1)
            active = http.get("/health/ready").json()["model_version"]
            require(active == version, f"the proxy shows {active}")
        time.sleep(2)
    versions = Counter(a.reply["model_version"] for a in load.answers if "model_version" in a.reply)
    require(set(versions) == {FIRST, SECOND}, f"answers are of {dict(versions)}")
    return {**assert_slo_held(topology, load), **took, "answers_by_version": dict(versions)}


def consume_stream(topology: Topology) -> Figures:
    """Events of the stream become labels, another entry a dead letter, and slates include them."""
    event = {"user_id": "streamed", "video_id": "v1", "watch_time_s": 5.5, "duration_s": 30.0}
    events = [event | {"event_id": f"s{n}", "timestamp_ms": START_MS + n} for n in range(STREAM_ENTRIES - 1)]
    entries = ["none", *map(json.dumps, events)]
    script = "".join(f"XADD reelrank:events * event '{entry}'\n" for entry in entries)
    (topology.secrets.parent / "entries").write_text(script)
    topology.sh(
        "dc exec -T redis sh -c 'REDISCLI_AUTH=$(cat /run/secrets/store_admin) redis-cli --user admin' < "
        f"{topology.secrets.parent / 'entries'}"
    )

    def settled() -> bool:
        labels, dead = topology.sh("store XLEN reelrank:labels; store XLEN reelrank:dead").split()
        return (int(labels), int(dead)) == (STREAM_ENTRIES - 1, 1)

    wait_until(settled, "every entry of the stream has its output", WAIT_S)
    slate = {"user_id": "streamed", "candidates": [{"video_id": "21", "duration_s": 20.0}]}
    with topology.http() as http:
        http.headers["X-Deadline-Ms"] = DEADLINE_MS
        length = http.post("/rerank", json=slate).raise_for_status().json()["history_length"]
    require(length > 0, "a slate does not include the stream's events")
    return {"labels": STREAM_ENTRIES - 1, "dead_letters": 1, "history_of_the_next_slate": length}


def upgrade(topology: Topology) -> Figures:
    """Follow the pages *Upgrade* and *Rollback* under load."""
    topology.run_page("next-image")
    images = []
    with topology.load("upgrade") as load:
        for page in ("upgrade", "rollback"):
            topology.run_page(page)
            (container,) = json.loads(docker("inspect", topology.container("service-b")))
            images.append(container["Config"]["Image"])
    return {**assert_slo_held(topology, load), "images": images}


def restore(topology: Topology) -> Figures:
    """Follow the pages *Backup* and *Restore*, with a deletion and FLUSHALL between."""
    ledger = topology.ledger("kept")
    with topology.http() as http:
        _send(http, ledger, 400)
        topology.run_page("backup")
        deleted = f"/users/{ledger.user(0)}"
        deleted_events = len(http.get(f"{deleted}/sequence").raise_for_status().json()["events"])
        http.delete(deleted).raise_for_status()
        later = topology.ledger("later")
        http.post("/label", json=later.batch(5)).raise_for_status()
        topology.sh("store FLUSHALL")
        require(http.get(f"/users/{ledger.user(5)}/sequence").status_code == 404, "FLUSHALL left something")
        output = topology.run_page("restore")
        gone = http.get(f"{deleted}/sequence").status_code
        require(gone == 404 and "forgotten again" in output, f"a forgotten user is back: {gone}, {output}")
        status = http.get(f"/users/{later.user(0)}/sequence").status_code
        require(status == 404, f"events after the backup are stored: {status}")
        count = ledger.check(http)
    require(count.losses == deleted_events, f"{count}, of which {deleted_events} were deleted")
    return {
        "events_back": count.acknowledged - count.losses,
        "lost": 0,
        "forgotten_since": "forgotten again",
        "backup_bytes": (topology.secrets.parent / "reelrank-backup/store.tar").stat().st_size,
    }


def rotate_keys(topology: Topology) -> Figures:
    """Follow the page *Key rotation* under load: old keys work until it is settled."""
    if (topology.secrets / "key_client.old").exists():  # of an attempt before
        topology.run_page("settle")
    old = topology.key("client")
    old_password = (topology.secrets / "password_service").read_text()
    with topology.load("rotated", key=old) as load:
        topology.run_page("rotate")
        topology.wait_until_healthy("consumer")
    found = assert_slo_held(topology, load)
    with topology.load("settled") as load:
        topology.run_page("settle")
    found["requests"] += assert_slo_held(topology, load)["requests"]
    headers = {"Authorization": f"Bearer {old}"}
    refused = httpx2.post(f"{topology.url}/rerank", json={}, headers=headers).status_code
    require(refused == 401, f"the old key is answered {refused}")
    output = topology.sh(
        f"dc exec -T redis redis-cli -u redis://reelrank:{old_password}@127.0.0.1:6379 PING 2>&1 || true"
    )
    require("WRONGPASS" in output, f"the old password opens the store: {output}")
    return {**found, "old_key_after": refused, "old_password_after": "WRONGPASS"}


def measure_capacity(topology: Topology) -> Figures:
    """Follow the page *Capacity*, and measure the bytes of a user in the store."""
    topology.run_page("capacity")
    before = _used(topology)
    with topology.http() as http:
        _send(http, topology.ledger("sized"), USERS * 30)
    bytes_a_user = round((_used(topology) - before) / USERS)
    topology.run_page("more-memory")
    require("314572800" in topology.sh("store CONFIG GET maxmemory"), "the store has another limit")
    usage = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", topology.container("service-a"))
    with topology.load("flat2", senders=SENDERS, events=EVENTS) as flat:
        time.sleep(2)
        rate = _label_rate(flat)
    with topology.load("workers") as load:
        topology.run_page("more-workers")
    assert_slo_held(topology, load)
    return {
        "bytes_a_user": bytes_a_user,
        "users_a_gib": 2**30 // bytes_a_user,
        "replica_mib": round(float(usage.partition("MiB")[0])),
        "events_a_second": round(rate),
        "cores": os.cpu_count(),
        "workers_doubled": "no request failed",
    }


def _used(topology: Topology) -> int:
    lines = topology.sh("store INFO memory").splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("used_memory:"))


def _all_serve(topology: Topology, version: str) -> bool:
    ready = (
        "import json, urllib.request as u; "
        "print(json.load(u.urlopen('http://127.0.0.1:8000/health/ready'))['model_version'])"
    )
    return all(
        docker("exec", topology.container(replica), "python", "-c", ready).strip() == version
        for replica in REPLICAS
    )


DRILLS: Final[dict[str, Callable[[Topology], Figures]]] = {
    "started": start,
    "hardened": check_hardening,
    "label and slate": label_and_slate,
    "a replica killed under load": kill_replica,
    "a replica frozen under load": freeze_replica,
    "the store killed under load": kill_store,
    "bundle changed under load": change_bundle,
    "the stream": consume_stream,
    "upgrade and rollback under load": upgrade,
    "backup and restore": restore,
    "keys rotated under load": rotate_keys,
    "capacity": measure_capacity,
}
