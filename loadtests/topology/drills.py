"""What is done to the running topology, and what has to be so afterwards.

This file is long because every drill is in it, in the order they are played, each told whole."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import httpx2

from loadtests.faults.ledger import START_MS
from loadtests.faults.stage import FIRST, SECOND
from loadtests.topology.compose import DEADLINE_MS, Topology, until
from loadtests.topology.images import docker
from loadtests.topology.operations import capacity, restored, rotated, upgraded
from loadtests.topology.pages import commands
from loadtests.topology.verdicts import EVENTS, SENDERS, Found, need, unharmed

REPLICAS: Final = ("service-a", "service-b")
STREAMED: Final = 200
"""Entries of the stream, one of which is no event."""


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
        need(user not in ("", "0", "root"), f"{part} runs as {user or 'root'}")
        need(found["HostConfig"]["ReadonlyRootfs"], f"{part} can write to its root")
        need(found["HostConfig"]["CapDrop"] == ["ALL"], f"{part} has capabilities")
        published = any(found["NetworkSettings"]["Ports"].values())
        need(
            published == (part in ("proxy", "prometheus", "grafana")), f"{part} publishes a port, or does not"
        )
        values = " ".join(found["Config"]["Env"])
        for secret in topology.secrets.iterdir():
            need(secret.read_text().strip() not in values, f"{secret.name} is in the environment of {part}")
    refused = topology.sh("dc exec -T redis redis-cli GET rr:s:{ann} 2>&1")
    need("NOAUTH" in refused, f"the store lets anybody read: {refused}")
    service = "dc exec -T redis redis-cli -u redis://reelrank:{}@127.0.0.1:6379 CONFIG GET '*' 2>&1"
    refused = topology.sh(service.format((topology.secrets / "password_service").read_text()))
    need("NOPERM" in refused, f"the service may configure the store: {refused}")
    policy = topology.sh("store CONFIG GET maxmemory-policy; store CONFIG GET appendfsync")
    need("noeviction" in policy and "always" in policy, f"the store has another policy: {policy}")
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
        http.headers["X-Deadline-Ms"] = DEADLINE_MS
        lengths = [
            http.post("/rerank", json=slate).raise_for_status().json()["history_length"] for _ in range(6)
        ]
        need(label["accepted"] == 1 and set(lengths) == {1}, f"{label}, histories {lengths}")
        again = http.post("/label", json=event).raise_for_status().json()
        need(again["duplicates"] == 1, f"an event was taken twice: {again}")
        told = {path: http.get(path).status_code for path in ("/metrics", "/v1/models", "/docs")}
        need(set(told.values()) == {404}, f"served to the outside: {told}")
        told = {
            "no key": httpx2.post(f"{topology.url}/label", json=event).status_code,
            "no event": http.post("/label", json={"event_id": "e"}).status_code,
        }
        need(list(told.values()) == [401, 422], f"{told}")
    return {"label": label["labels"][0]["label"], "slates_know_of_it": "6 of 6", "refused": told}


def replica_killed(topology: Topology) -> Found:
    """SIGKILL of one of two replicas under load: a client that retries once notices nothing."""

    def back() -> None:
        topology.start("service-a")
        topology.sh("ready a")

    with topology.load("killed") as load:
        load.during(lambda: topology.kill("service-a"), back)
    return unharmed(topology, load)


def replica_frozen(topology: Topology) -> Found:
    """A replica that answers nothing and ends nothing: slates and labels go to the other one."""
    name = topology.container("service-b")

    def back() -> None:
        docker("unpause", name)
        topology.sh("ready b")

    with topology.load("frozen") as load:
        load.during(lambda: docker("pause", name), back)
    return unharmed(topology, load)


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
    need(count.lost == count.doubled == 0, f"{count}")
    answers = Counter(answer.outcome for answer in slates.answers if answer.path == "/rerank")
    need(set(answers) <= {"200", "200 degraded"} and answers["200 degraded"] > 0, f"slates: {answers}")
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
            need(until(partial(_all_serve, topology, version)), f"not every part answers from {version}")
            took[page.replace("-", "_") + "_s"] = round(time.monotonic() - before, 1)
            need(
                http.get("/health/ready").json()["model_version"] == version,
                "the proxy shows another version",
            )
        time.sleep(2)
    versions = Counter(
        answer.reply["model_version"] for answer in load.answers if "model_version" in answer.reply
    )
    need(set(versions) == {FIRST, SECOND}, f"answers are of {dict(versions)}")
    return {**unharmed(topology, load), **took, "answers_by_version": dict(versions)}


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

    need(until(settled), "not every entry of the stream has its output")
    slate = {"user_id": "streamed", "candidates": [{"video_id": "21", "duration_s": 20.0}]}
    with topology.http() as http:
        http.headers["X-Deadline-Ms"] = DEADLINE_MS
        length = http.post("/rerank", json=slate).raise_for_status().json()["history_length"]
    need(length > 0, "a slate knows nothing of the stream")
    return {"labels": STREAMED - 1, "dead_letters": 1, "history_of_the_next_slate": length}


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


def _all_serve(topology: Topology, version: str) -> bool:
    ready = (
        "import json, urllib.request as u; "
        "print(json.load(u.urlopen('http://127.0.0.1:8000/health/ready'))['model_version'])"
    )
    return all(
        docker("exec", topology.container(replica), "python", "-c", ready).strip() == version
        for replica in REPLICAS
    )
