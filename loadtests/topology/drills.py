"""What is done to the running topology, and what has to be so afterwards.

This file is long because every drill is in it, in the order they are played, each told whole."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import httpx2

from loadtests.faults.ledger import START_MS, Ledger
from loadtests.faults.load import Load
from loadtests.faults.stage import FIRST, SECOND
from loadtests.topology.compose import Topology, until
from loadtests.topology.images import Starved, StepFailed, docker
from loadtests.topology.pages import commands

Found = dict[str, Any]

REPLICAS: Final = ("service-a", "service-b")
SENDERS: Final = 4
EVENTS: Final = 10
"""Of one body, flat out."""
STREAMED: Final = 200
"""Entries of the stream, one of which is no event."""
NO_REPLICA: Final = "No replica is ready"
"""What the proxy says, and no replica."""
USERS: Final = 200
"""That the memory of one is measured by."""


def started(topology: Topology) -> Found:
    """Secrets, then everything at once, until all health checks pass."""
    topology.sh("sh docker/secrets.sh && dc config -q")
    before = time.monotonic()
    topology.sh(f"dc up -d --no-build {' '.join(topology.parts)}")
    topology.healthy(*topology.parts)
    topology.sh("ready a && ready b")
    return {"healthy": list(topology.parts), "after_s": round(time.monotonic() - before, 1)}


def hardened(topology: Topology) -> Found:
    """Nobody is root, nobody can write to its root, the store is reached by nobody and obeys nobody else."""
    for part in topology.parts:
        (found,) = json.loads(docker("inspect", topology.container(part)))
        user = found["Config"]["User"].partition(":")[0]
        _need(user not in ("", "0", "root"), f"{part} runs as {user or 'root'}")
        _need(found["HostConfig"]["ReadonlyRootfs"], f"{part} can write to its root")
        _need(found["HostConfig"]["CapDrop"] == ["ALL"], f"{part} has capabilities")
        published = any(found["NetworkSettings"]["Ports"].values())
        _need(
            published == (part in ("proxy", "prometheus", "grafana")), f"{part} publishes a port, or does not"
        )
        values = " ".join(found["Config"]["Env"])
        for secret in topology.secrets.iterdir():
            _need(secret.read_text().strip() not in values, f"{secret.name} is in the environment of {part}")
    refused = topology.sh("dc exec -T redis redis-cli GET rr:s:{ann} 2>&1")
    _need("NOPERM" in refused, f"the store lets anybody read: {refused}")
    service = "dc exec -T redis redis-cli -u redis://reelrank:{}@127.0.0.1:6379 CONFIG GET '*' 2>&1"
    refused = topology.sh(service.format((topology.secrets / "password_service").read_text()))
    _need("NOPERM" in refused, f"the service may configure the store: {refused}")
    policy = topology.sh("store CONFIG GET maxmemory-policy; store CONFIG GET appendfsync")
    _need("noeviction" in policy and "always" in policy, f"the store has another policy: {policy}")
    return {
        "not_root": True,
        "read_only": True,
        "published": ["proxy", "prometheus"],
        "store": "obeys its users only",
    }


def answered(topology: Topology) -> Found:
    """A label, a slate that knows of it on either replica, and what is refused."""
    event = {"event_id": "e1", "user_id": "ann", "video_id": "7", "timestamp_ms": START_MS}
    event |= {"watch_time_s": 48.4, "duration_s": 24.0}
    slate = {"user_id": "ann", "candidates": [{"video_id": "21", "duration_s": 20.0}, {"video_id": "22"}]}
    with topology.http() as http:
        label = http.post("/label", json=event).raise_for_status().json()
        lengths = [
            http.post("/rerank", json=slate).raise_for_status().json()["history_length"] for _ in range(6)
        ]
        _need(label["accepted"] == 1 and set(lengths) == {1}, f"{label}, histories {lengths}")
        again = http.post("/label", json=event).raise_for_status().json()
        _need(again["duplicates"] == 1, f"an event was taken twice: {again}")
        told = {path: http.get(path).status_code for path in ("/metrics", "/v1/models", "/docs")}
        _need(set(told.values()) == {404}, f"served to the outside: {told}")
        told = {
            "no key": httpx2.post(f"{topology.url}/label", json=event).status_code,
            "no event": http.post("/label", json={"event_id": "e"}).status_code,
        }
        _need(list(told.values()) == [401, 422], f"{told}")
    return {"label": label["labels"][0]["label"], "slates_know_of_it": "6 of 6", "refused": told}


def replica_killed(topology: Topology) -> Found:
    """SIGKILL of one of two replicas under load: a client that retries once notices nothing."""

    def back() -> None:
        topology.start("service-a")
        topology.sh("ready a")

    with topology.load("killed") as load:
        load.during(lambda: topology.kill("service-a"), back)
    return _unharmed(topology, load)


def replica_frozen(topology: Topology) -> Found:
    """A replica that answers nothing and ends nothing: slates and labels go to the other one."""
    name = topology.container("service-b")

    def back() -> None:
        docker("unpause", name)
        topology.sh("ready b")

    with topology.load("frozen") as load:
        load.during(lambda: docker("pause", name), back)
    return _unharmed(topology, load)


def store_killed(topology: Topology) -> Found:
    """SIGKILL of the store while labels come as fast as they are answered, and slates besides."""

    def back() -> None:
        topology.start("redis")
        topology.healthy("redis")

    with (
        topology.load("flat", senders=SENDERS, events=EVENTS) as flat,
        topology.load("slates") as slates,
    ):
        before, started_s = flat.ledger.acknowledged, time.monotonic()
        time.sleep(5)
        rate = (flat.ledger.acknowledged - before) / (time.monotonic() - started_s)
        slates.during(lambda: topology.kill("redis"), back)
    with topology.http() as http:
        count = flat.ledger.check(http)
    _need(count.lost == count.doubled == 0, f"{count}")
    answers = Counter(answer.outcome for answer in slates.answers if answer.path == "/rerank")
    _need(set(answers) <= {"200", "200 degraded"} and answers["200 degraded"] > 0, f"slates: {answers}")
    return {
        "acknowledged": count.acknowledged,
        "lost": 0,
        "doubled": 0,
        "slates": dict(answers),
        "well_again_s": round(slates.recovered_s() or 0.0, 1),
        "events_a_second_before": round(rate),
    }


def bundle_changed(topology: Topology) -> Found:
    """Another version for both replicas and back, under load."""
    pages = commands()
    took = {}
    with topology.load("bundle") as load, topology.http() as http:
        for page, version in (("new-bundle", SECOND), ("bundle-back", FIRST)):
            time.sleep(2)
            topology.sh(pages[page])
            before = time.monotonic()
            _need(until(partial(_all_serve, topology, version)), f"not every part answers from {version}")
            took[page.replace("-", "_") + "_s"] = round(time.monotonic() - before, 1)
            _need(
                http.get("/health/ready").json()["model_version"] == version,
                "the proxy shows another version",
            )
        time.sleep(2)
    versions = Counter(
        answer.reply["model_version"] for answer in load.answers if "model_version" in answer.reply
    )
    _need(set(versions) == {FIRST, SECOND}, f"answers are of {dict(versions)}")
    return {**_unharmed(topology, load), **took, "answers_by_version": dict(versions)}


def streamed(topology: Topology) -> Found:
    """Events of the stream become labels, what is none a dead letter, and slates know of them."""
    script = "".join(
        "XADD reelrank:events * event '{}'\n".format(
            json.dumps(
                {"event_id": f"stream-{n}", "user_id": "streamed", "video_id": f"v{n}"}
                | {"timestamp_ms": START_MS + n, "watch_time_s": 5.5, "duration_s": 30.0}
            )
            if n
            else "none"
        )
        for n in range(STREAMED)
    )
    (topology.secrets.parent / "entries").write_text(script)
    topology.sh(
        "dc exec -T redis sh -c 'REDISCLI_AUTH=$(cat /run/secrets/store_admin) redis-cli --user admin' < "
        f"{topology.secrets.parent / 'entries'}"
    )

    def settled() -> bool:
        labels, dead = topology.sh("store XLEN reelrank:labels; store XLEN reelrank:dead").split()
        return (int(labels), int(dead)) == (STREAMED - 1, 1)

    _need(until(settled), "not every entry of the stream has its output")
    slate = {"user_id": "streamed", "candidates": [{"video_id": "21", "duration_s": 20.0}]}
    with topology.http() as http:
        length = http.post("/rerank", json=slate).raise_for_status().json()["history_length"]
    _need(length > 0, "a slate knows nothing of the stream")
    return {"labels": STREAMED - 1, "dead_letters": 1, "history_of_the_next_slate": length}


def upgraded(topology: Topology) -> Found:
    """The page *Upgrade*, then *Rollback*, under load."""
    topology.sh(commands()["next-image"])
    return _turned(topology, "upgrade", "rollback")


def restored(topology: Topology) -> Found:
    """The page *Backup*, a catastrophe, the page *Restore*."""
    pages = commands()
    ledger = topology.ledger("kept")
    with topology.http() as http:
        _send(http, ledger, 400)
        topology.sh(pages["backup"])
        deleted = f"/users/{ledger.user(0)}"
        of_the_deleted = len(http.get(f"{deleted}/sequence").raise_for_status().json()["events"])
        http.delete(deleted).raise_for_status()
        later = topology.ledger("later")
        http.post("/label", json=later.batch(5)).raise_for_status()
        topology.sh("store FLUSHALL")
        _need(http.get(f"/users/{ledger.user(5)}/sequence").status_code == 404, "FLUSHALL left something")
        said = topology.sh(pages["restore"])
        gone = http.get(f"{deleted}/sequence").status_code
        _need(gone == 404 and "forgotten again" in said, f"who was forgotten is back: {gone}, {said}")
        there = http.get(f"/users/{later.user(0)}/sequence").status_code
        _need(there == 404, f"what came after the backup is there: {there}")
        count = ledger.check(http)
    _need(count.lost == of_the_deleted, f"{count}, of which {of_the_deleted} were deleted")
    return {
        "events_back": count.acknowledged - count.lost,
        "lost": 0,
        "forgotten_since": "forgotten again",
        "backup_bytes": (topology.secrets.parent / "reelrank-backup/store.tar").stat().st_size,
    }


def rotated(topology: Topology) -> Found:
    """The page *Key rotation* under load: the old key works until it is settled, and then no more."""
    pages = commands()
    if (topology.secrets / "key_client.old").exists():  # of an attempt before
        topology.sh(pages["settle"])
    old = topology.key("client")
    old_password = (topology.secrets / "password_service").read_text()
    with topology.load("rotated", key=old) as load:
        topology.sh(pages["rotate"])
        topology.healthy("consumer")
    found = _unharmed(topology, load)
    with topology.load("settled") as load:
        topology.sh(pages["settle"])
    found["requests"] += _unharmed(topology, load)["requests"]
    headers = {"Authorization": f"Bearer {old}"}
    refused = httpx2.post(f"{topology.url}/rerank", json={}, headers=headers).status_code
    _need(refused == 401, f"the old key is answered {refused}")
    said = topology.sh(
        f"dc exec -T redis redis-cli -u redis://reelrank:{old_password}@127.0.0.1:6379 PING 2>&1 || true"
    )
    _need("WRONGPASS" in said, f"the old password opens the store: {said}")
    return {**found, "old_key_after": refused, "old_password_after": "WRONGPASS"}


def capacity(topology: Topology) -> Found:
    """The page *Capacity*, and what a user takes of the store."""
    pages = commands()
    topology.sh(pages["capacity"])
    before = _used(topology)
    with topology.http() as http:
        _send(http, topology.ledger("sized"), USERS * 30)
    bytes_a_user = round((_used(topology) - before) / USERS)
    topology.sh(pages["more-memory"])
    _need("314572800" in topology.sh("store CONFIG GET maxmemory"), "the store has another limit")
    held = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", topology.container("service-a"))
    with topology.load("flat2", senders=SENDERS, events=EVENTS) as flat:
        time.sleep(2)
        first, since = flat.ledger.acknowledged, time.monotonic()
        time.sleep(5)
        rate = (flat.ledger.acknowledged - first) / (time.monotonic() - since)
    with topology.load("workers") as load:
        topology.sh(pages["more-workers"])
    _unharmed(topology, load)
    return {
        "bytes_a_user": bytes_a_user,
        "users_a_gib": 2**30 // bytes_a_user,
        "replica_mib": round(float(held.partition("MiB")[0])),
        "events_a_second": round(rate),
        "cores": os.cpu_count(),
        "workers_doubled": "no request failed",
    }


DRILLS: Final[dict[str, Callable[[Topology], Found]]] = {
    "started": started,
    "hardened": hardened,
    "label and slate": answered,
    "a replica killed under load": replica_killed,
    "a replica frozen under load": replica_frozen,
    "the store killed under load": store_killed,
    "bundle changed under load": bundle_changed,
    "the stream": streamed,
    "upgrade and rollback under load": upgraded,
    "backup and restore": restored,
    "keys rotated under load": rotated,
    "capacity": capacity,
}


def _turned(topology: Topology, *pages: str) -> Found:
    images = []
    with topology.load(pages[0]) as load:
        for page in pages:
            topology.sh(commands()[page])
            (found,) = json.loads(docker("inspect", topology.container("service-b")))
            images.append(found["Config"]["Image"])
    return {**_unharmed(topology, load), "images": images}


def _unharmed(topology: Topology, load: Load) -> Found:
    """That every request of the load was answered, retried once at most, and every acknowledged event is
    there."""
    outcomes = Counter(answer.outcome for answer in load.answers)
    failed = {outcome: count for outcome, count in outcomes.items() if not outcome.startswith("200")}
    if failed:
        said = Counter(answer.said for answer in load.answers if answer.said).most_common(2)
        refused = set(failed) <= {"429", "503"} and not any(NO_REPLICA in what for what, _ in said)
        error = Starved if refused else StepFailed
        raise error(f"failed after a retry: {failed} of {len(load.answers)}; {said}")
    with topology.http() as http:
        count = load.ledger.check(http)
    _need(count.lost == count.doubled == 0, f"{count}")
    return {
        "requests": len(load.answers),
        "retried_once": sum(answer.tries > 1 for answer in load.answers),
        "failed": 0,
        "degraded_slates": outcomes["200 degraded"],
        "events": count.acknowledged,
        "lost": 0,
    }


def _all_serve(topology: Topology, version: str) -> bool:
    ready = (
        "import json, urllib.request as u; "
        "print(json.load(u.urlopen('http://127.0.0.1:8000/health/ready'))['model_version'])"
    )
    return all(
        docker("exec", topology.container(replica), "python", "-c", ready).strip() == version
        for replica in REPLICAS
    )


def _send(http: httpx2.Client, ledger: Ledger, events: int) -> None:
    for _ in range(events // 50):
        batch = ledger.batch(50)
        ledger.settle(batch, http.post("/label", json=batch).raise_for_status().json())


def _used(topology: Topology) -> int:
    told = topology.sh("store INFO memory")
    return next(int(line.partition(":")[2]) for line in told.splitlines() if line.startswith("used_memory:"))


def _need(holds: object, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)
