"""The pages of docker/README.md, carried out: upgrade, rollback, backup, restore, rotation, capacity."""

from __future__ import annotations

import json
import os
import time
from typing import Final

import httpx2

from loadtests.topology.compose import Topology
from loadtests.topology.images import docker
from loadtests.topology.pages import commands
from loadtests.topology.verdicts import EVENTS, SENDERS, Found, need, send, unharmed

USERS: Final = 200
"""That the memory of one is measured by."""


def upgraded(topology: Topology) -> Found:
    """The page *Upgrade*, then *Rollback*, under load."""
    topology.sh(commands()["next-image"])
    return _turned(topology, "upgrade", "rollback")


def restored(topology: Topology) -> Found:
    """The page *Backup*, a catastrophe, the page *Restore*."""
    pages = commands()
    ledger = topology.ledger("kept")
    with topology.http() as http:
        send(http, ledger, 400)
        topology.sh(pages["backup"])
        deleted = f"/users/{ledger.user(0)}"
        of_the_deleted = len(http.get(f"{deleted}/sequence").raise_for_status().json()["events"])
        http.delete(deleted).raise_for_status()
        later = topology.ledger("later")
        http.post("/label", json=later.batch(5)).raise_for_status()
        topology.sh("store FLUSHALL")
        need(http.get(f"/users/{ledger.user(5)}/sequence").status_code == 404, "FLUSHALL left something")
        said = topology.sh(pages["restore"])
        gone = http.get(f"{deleted}/sequence").status_code
        need(gone == 404 and "forgotten again" in said, f"who was forgotten is back: {gone}, {said}")
        there = http.get(f"/users/{later.user(0)}/sequence").status_code
        need(there == 404, f"what came after the backup is there: {there}")
        count = ledger.check(http)
    need(count.lost == of_the_deleted, f"{count}, of which {of_the_deleted} were deleted")
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
    found = unharmed(topology, load)
    with topology.load("settled") as load:
        topology.sh(pages["settle"])
    found["requests"] += unharmed(topology, load)["requests"]
    headers = {"Authorization": f"Bearer {old}"}
    refused = httpx2.post(f"{topology.url}/rerank", json={}, headers=headers).status_code
    need(refused == 401, f"the old key is answered {refused}")
    said = topology.sh(
        f"dc exec -T redis redis-cli -u redis://reelrank:{old_password}@127.0.0.1:6379 PING 2>&1 || true"
    )
    need("WRONGPASS" in said, f"the old password opens the store: {said}")
    return {**found, "old_key_after": refused, "old_password_after": "WRONGPASS"}


def capacity(topology: Topology) -> Found:
    """The page *Capacity*, and what a user takes of the store."""
    pages = commands()
    topology.sh(pages["capacity"])
    before = _used(topology)
    with topology.http() as http:
        send(http, topology.ledger("sized"), USERS * 30)
    bytes_a_user = round((_used(topology) - before) / USERS)
    topology.sh(pages["more-memory"])
    need("314572800" in topology.sh("store CONFIG GET maxmemory"), "the store has another limit")
    held = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", topology.container("service-a"))
    with topology.load("flat2", senders=SENDERS, events=EVENTS) as flat:
        time.sleep(2)
        first, since = flat.ledger.acknowledged, time.monotonic()
        time.sleep(5)
        rate = (flat.ledger.acknowledged - first) / (time.monotonic() - since)
    with topology.load("workers") as load:
        topology.sh(pages["more-workers"])
    unharmed(topology, load)
    return {
        "bytes_a_user": bytes_a_user,
        "users_a_gib": 2**30 // bytes_a_user,
        "replica_mib": round(float(held.partition("MiB")[0])),
        "events_a_second": round(rate),
        "cores": os.cpu_count(),
        "workers_doubled": "no request failed",
    }


def _turned(topology: Topology, *pages: str) -> Found:
    images = []
    with topology.load(pages[0]) as load:
        for page in pages:
            topology.sh(commands()[page])
            (found,) = json.loads(docker("inspect", topology.container("service-b")))
            images.append(found["Config"]["Image"])
    return {**unharmed(topology, load), "images": images}


def _used(topology: Topology) -> int:
    told = topology.sh("store INFO memory")
    return next(int(line.partition(":")[2]) for line in told.splitlines() if line.startswith("used_memory:"))
