"""The arithmetic: what an audience asks for, what one of each carries, how many of each that takes.

Nothing here is rounded but whole machines. Rates are a second; GiB are 2**30 bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from loadtests.capacity.figures import Measured

DAY_S: Final = 86_400
GIB: Final = 2**30
ALL: Final = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What nobody can measure here. The reasons are beside the options."""

    daily_users: float = 300e6
    requests_per_user: float = 30.0
    events_per_user: float = 120.0
    peak_factor: float = 2.5
    known_share: float = 2.5
    history: int = 100
    window_days: float = 2.0
    videos: float = 10e6
    busy: float = 0.6
    worker_cores: int = 16
    shard_gib: float = 16.0
    shard_fill: float = 0.6
    replicas: int = 1
    spare: float = 0.25
    slate_in_bytes: float = 16_000.0
    slate_out_bytes: float = 24_000.0
    event_bytes: float = 200.0
    disk_mb_per_s: float = 200.0
    network_gbit_per_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Limit:
    """One thing that runs out."""

    name: str
    daily_users: float
    """An audience that one machine or shard carries before it does."""
    of: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the page says."""

    slates_per_s: float
    events_per_s: float
    """Both at the peak."""

    worker_slates_per_s: float
    slate_workers: int
    event_workers: int
    worker_machines: int
    worker_machine_gib: float

    users: float
    user_bytes: float
    claims_bytes: float
    left_bytes: float
    state_bytes: float
    shards_by_memory: int
    shards_by_processor: int
    shards_by_disk: int
    shards_by_network: int
    shards: int
    store_processes: int
    store_gib: float

    append_per_shard: float
    """Bytes a second at the peak."""
    append_per_day: float
    """Bytes of all shards."""
    disk_per_shard: float
    """Bytes."""

    client_bits: float
    store_bits: float
    replica_bits: float
    machine_bits: float
    """A second at the peak; the last one of a machine of workers."""

    limits: tuple[Limit, ...]
    """What one shard and one machine of workers carry, least first."""
    walls: tuple[Limit, ...]
    """What all of it carries, however many machines there are; least first."""
    hashes_needed: int
    """Of event ids, for this audience."""

    @property
    def decides(self) -> str:
        """What the number of shards goes by."""
        found = {
            "memory": self.shards_by_memory,
            "processor": self.shards_by_processor,
            "disk": self.shards_by_disk,
            "network": self.shards_by_network,
        }
        return max(found, key=lambda name: found[name])


def plan(measured: Measured, a: Assumed) -> Plan:
    """The plan for an audience."""
    slates = a.daily_users * a.requests_per_user / DAY_S * a.peak_factor
    events = a.daily_users * a.events_per_user / DAY_S * a.peak_factor
    share = 1.0 / a.daily_users  # of anything, for one user a day

    # Workers: processor time, or what a worker was seen to carry in time.
    slates_per_worker = (
        a.busy * 1000 / measured.slate_ms.value
        if measured.slates_per_s is None
        else min(measured.slates_per_s.value, a.busy * 1000 / measured.slate_ms.value)
    )
    events_per_worker = a.busy * 1000 / measured.event_ms.value
    slate_workers = math.ceil(slates / slates_per_worker)
    event_workers = math.ceil(events / events_per_worker)
    machines = math.ceil((slate_workers + event_workers) / a.worker_cores * (1 + a.spare))

    # State: who is known, the event ids of the window, and what has left a sequence within it.
    users = a.daily_users * a.known_share
    user_bytes = measured.user_bytes[a.history].value
    window_events = a.daily_users * a.events_per_user * a.window_days
    claims = window_events * measured.claim_bytes.value
    full = a.history == max(measured.user_bytes)  # a sequence that is not full loses nothing
    left = window_events * measured.left_bytes.value if full else 0.0
    state = users * user_bytes + claims + left
    room = a.shard_gib * GIB * a.shard_fill
    processor = (slates * measured.read_ms.value + events * measured.write_ms.value) / 1000
    append = events * measured.append_bytes.value
    by_memory = math.ceil(state / room)
    by_processor = math.ceil(processor / a.busy)
    by_disk = math.ceil(append / (a.disk_mb_per_s * 1e6 * a.busy))

    # Bits a second: of clients, of what slates read, of what replicas are sent.
    client = 8 * (slates * (a.slate_in_bytes + a.slate_out_bytes) + events * a.event_bytes)
    read = 8 * slates * measured.packed_bytes[a.history].value
    replica = 8 * append * a.replicas
    line = a.network_gbit_per_s * 1e9 * a.busy
    by_network = math.ceil((read + replica) / line)
    shards = max(by_memory, by_processor, by_disk, by_network)
    machine_workers = a.worker_cores / (1 + a.spare)
    workers_share = share * (slate_workers + event_workers)
    limits = (
        Limit("memory", room / (state * share), "shard"),
        Limit("processor (one thread)", a.busy / (processor * share), "shard"),
        Limit("disk (appending)", a.disk_mb_per_s * 1e6 * a.busy / (append * share), "shard"),
        Limit("network", line / ((read + replica) * share), "shard"),
        Limit("processor", machine_workers / workers_share, "machine of workers"),
        Limit("network", line / ((client + read) * share), "machine of workers"),
    )
    walls = (
        Limit("memory of one hash of event ids", room / (claims / measured.claim_hashes * share), ALL),
        Limit(
            "processor that one hash of event ids needs",
            a.busy * measured.claim_hashes / (events * measured.claim_ms.value / 1000 * share),
            ALL,
        ),
    )
    base = state / shards
    return Plan(
        slates_per_s=slates,
        events_per_s=events,
        worker_slates_per_s=slates_per_worker,
        slate_workers=slate_workers,
        event_workers=event_workers,
        worker_machines=machines,
        worker_machine_gib=(
            a.worker_cores * measured.worker_bytes.value + a.videos * measured.video_bytes.value
        )
        / GIB,
        users=users,
        user_bytes=user_bytes,
        claims_bytes=claims,
        left_bytes=left,
        state_bytes=state,
        shards_by_memory=by_memory,
        shards_by_processor=by_processor,
        shards_by_disk=by_disk,
        shards_by_network=by_network,
        shards=shards,
        store_processes=shards * (1 + a.replicas),
        store_gib=shards * (1 + a.replicas) * a.shard_gib,
        append_per_shard=append / shards,
        append_per_day=append / a.peak_factor * DAY_S,
        disk_per_shard=3 * base,
        client_bits=client,
        store_bits=read,
        replica_bits=replica,
        machine_bits=(client + read) / machines,
        limits=_sorted(limits),
        walls=_sorted(walls),
        hashes_needed=math.ceil(
            measured.claim_hashes * max(a.daily_users / wall.daily_users for wall in walls)
        ),
    )


def _sorted(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    return tuple(sorted(limits, key=lambda limit: limit.daily_users))
