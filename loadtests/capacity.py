"""`python -m loadtests.capacity`: measured costs and an audience in, machines and the working out.

Costs come from the committed reports, assumptions are options. Rates are a second, GiB are 2**30 bytes, and
nothing is rounded but whole machines.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from loadtests.command import write_atomically
from loadtests.report import markdown_table
from models.errors import BadInput

FOLDER: Final = Path(__file__).parent
TEMPLATE: Final = FOLDER / "templates" / "capacity.md"
OFFLINE: Final = FOLDER / "templates" / "capacity_offline.md"
OFFLINE_COLUMNS: Final = (
    *("", "CPU µs a row", "core-hours for 10^9 rows", "for 10^10", "GB read for 10^9 rows", "GB written"),
    *("memory, MiB", "at rows", "more a row, bytes", "rows that a machine holds"),
)
DAY_S: Final = 86_400
GIB: Final = 2**30


def _assume(default: float, help: str, low: float = 0.0, high: float = math.inf) -> Any:
    return field(default=default, metadata={"help": help, "range": (low, high)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What cannot be measured here; every member is an option of the command."""

    daily_users: float = _assume(300e6, "users a day", 1)
    requests_per_user: float = _assume(
        30.0, "slates a user and day: an hour of videos, two minutes a slate", 0.01
    )
    events_per_user: float = _assume(120.0, "exposures a user and day: an hour of half-minute videos", 0.01)
    peak_factor: float = _assume(2.5, "peak over the daily mean: an evening of one region", 1)
    known_share: float = _assume(2.5, "users kept for each daily user: those of 90 days of retention", 1)
    history: int = _assume(100, "exposures of a user, one of the measured lengths; 100 is all that is kept")
    window_days: float = _assume(1.0, "idempotency window; what left a sequence is kept for up to two", 0.01)
    videos: float = _assume(10e6, "videos of the catalogue")
    busy: float = _assume(0.6, "utilisation of anything at the peak; the rest is for bursts", 0.05, 1)
    worker_cores: int = _assume(16, "cores of a machine, with a worker each", 1)
    shard_gib: float = _assume(16.0, "memory of a shard: small enough to copy to a replica in minutes", 0.1)
    shard_fill: float = _assume(0.6, "share of it for state; rewriting the file may copy the rest", 0.05, 1)
    replicas: int = _assume(1, "replicas of each shard")
    spare: float = _assume(0.25, "spare worker machines: one zone of five may be away")
    slate_in_bytes: float = _assume(16_000.0, "a request: 200 candidates with duration, author and tag", 1)
    slate_out_bytes: float = _assume(24_000.0, "its reply: 200 items with scores and objectives", 1)
    event_bytes: float = _assume(200.0, "an event as JSON", 1)
    disk_mb_per_s: float = _assume(200.0, "sustained writes of a shard's (network) disk", 1)
    network_gbit_per_s: float = _assume(10.0, "network of a machine", 0.1)
    offline_gib: float = _assume(64.0, "memory of a machine that prepares, labels and fits", 1)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one of each costs: bytes, or milliseconds of one processor."""

    user_bytes: dict[int, float]  # in the store, by exposures of the user
    packed_bytes: dict[int, float]  # that a slate reads, by exposures of the user
    claim_bytes: float  # of a known event id
    left_bytes: float  # of a known event that newer ones pushed out of its sequence
    read_ms: float  # of the store, for a slate
    write_ms: float  # of the store, for one event
    append_bytes: float  # of the store's file and of each replica's link, for one event
    worker_bytes: float  # private memory of a worker
    video_bytes: float  # in the catalogue's file, once a machine
    slate_ms: float  # of a worker
    event_ms: float  # of a worker, in a body of 100 events of 100 users
    slates_per_s: float | None  # of a worker with p99 under 10 ms; `None` where the load test found none
    origins: tuple[str, ...]  # a line for each report


def read_reports(folder: Path) -> Measured:
    """Read memory.json, bench.json and, where it exists, load.json.

    Raises:
        BadInput: a report is missing or incomplete.
    """
    reports: dict[str, dict[str, Any]] = {}
    for name in ("memory", "bench", "load"):
        path = folder / f"{name}.json"
        if name == "load" and not path.exists():
            continue
        try:
            reports[name] = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            raise BadInput(
                f"{path} cannot be read ({e}). Make it with `python -m loadtests.{name}`."
            ) from None
    try:
        store, catalogue = (reports["memory"]["figures"][name] for name in ("store", "catalogue"))
        bench, load = reports["bench"]["figures"], reports.get("load", {"figures": {}})["figures"]
        worker = next(row for row in catalogue["workers"] if row["workers"] == 1)
        measured = Measured(
            user_bytes={row["events"]: row["bytes_a_user"] for row in store["sequences"]},
            packed_bytes={row["events"]: row["packed_bytes"] for row in store["sequences"]},
            claim_bytes=store["claims"]["bytes_an_event"],
            left_bytes=store["left_the_sequence_bytes_an_event"],
            read_ms=store["read_server_cpu_ms"],
            write_ms=store["write_1_event_server_cpu_ms"],
            append_bytes=store["write_1_event_aof_bytes"],
            worker_bytes=(worker["rss_mib"] - worker["file_rss_mib"]) * 2**20,
            video_bytes=catalogue["bytes_a_video"],
            slate_ms=bench["rerank_200_candidates_50_events_ms"]["cpu_of_the_worker"],
            event_ms=bench["label_100_events_of_100_users_ms"]["cpu_of_the_worker"] / 100,
            slates_per_s=load.get("rerank 200", {}).get("capacity"),
            origins=tuple(
                f"`{name}.json`: `{report['command']}`, {report['date']}, commit `{report['commit']}`, "
                f"{report['machine']}"
                for name, report in reports.items()
            ),
        )
    except (KeyError, TypeError, StopIteration) as e:
        raise BadInput(
            f"A report in {folder} has no {e}. Make them again, see loadtests/README.md."
        ) from None
    costs = {name: value for name, value in asdict(measured).items() if isinstance(value, float)}
    if worthless := [name for name, value in costs.items() if value <= 0]:
        raise BadInput(f"{folder}: {worthless[0]} is {costs[worthless[0]]}, which cannot be; measure again.")
    return measured


class Plan:
    """The machines for an audience; attributes are rates at the peak, GiB, Gbit/s, and counts."""

    def __init__(self, m: Measured, assumptions: Assumptions) -> None:
        """Raises:
        BadInput: users of this history were not measured.
        """
        if assumptions.history not in m.user_bytes:
            lengths = ", ".join(map(str, m.user_bytes))
            raise BadInput(f"--history {assumptions.history} was not measured; there is {lengths}.")
        self.mean_slates_per_s = assumptions.daily_users * assumptions.requests_per_user / DAY_S
        self.mean_events_per_s = assumptions.daily_users * assumptions.events_per_user / DAY_S
        self.slates_per_s = self.mean_slates_per_s * assumptions.peak_factor
        self.events_per_s = self.mean_events_per_s * assumptions.peak_factor

        by_cpu = assumptions.busy * 1000 / m.slate_ms
        self.worker_slates_per_s = by_cpu if m.slates_per_s is None else min(m.slates_per_s, by_cpu)
        self.slate_workers = math.ceil(self.slates_per_s / self.worker_slates_per_s)
        self.event_workers = math.ceil(self.events_per_s * m.event_ms / 1000 / assumptions.busy)
        self.workers = self.slate_workers + self.event_workers
        self.worker_machines = math.ceil(self.workers / assumptions.worker_cores * (1 + assumptions.spare))
        self.worker_machine_gib = (
            assumptions.worker_cores * m.worker_bytes + assumptions.videos * m.video_bytes
        ) / GIB

        self.users_gib = (
            assumptions.daily_users * assumptions.known_share * m.user_bytes[assumptions.history] / GIB
        )
        window_events = assumptions.daily_users * assumptions.events_per_user * assumptions.window_days
        self.claims_gib = window_events * m.claim_bytes / GIB
        # Only a full sequence pushes events out.
        self.left_gib = (
            2 * window_events * m.left_bytes / GIB if assumptions.history == max(m.user_bytes) else 0.0
        )
        self.state_gib = self.users_gib + self.claims_gib + self.left_gib

        append = self.events_per_s * m.append_bytes
        client_bytes = self.slates_per_s * (assumptions.slate_in_bytes + assumptions.slate_out_bytes)
        self.client_gbit = 8 * (client_bytes + self.events_per_s * assumptions.event_bytes) / 1e9
        self.store_gbit = 8 * self.slates_per_s * m.packed_bytes[assumptions.history] / 1e9
        self.replica_gbit = 8 * append * assumptions.replicas / 1e9
        self.machine_gbit = (self.client_gbit + self.store_gbit) / self.worker_machines

        # What a shard has of each resource, and what all shards need together.
        shard_gib, link_gbit = (
            assumptions.shard_gib * assumptions.shard_fill,
            assumptions.network_gbit_per_s * assumptions.busy,
        )
        store_cpu = (self.slates_per_s * m.read_ms + self.events_per_s * m.write_ms) / 1000
        shares = {
            "memory": self.state_gib / shard_gib,
            "processor": store_cpu / assumptions.busy,
            "disk": append / (assumptions.disk_mb_per_s * 1e6 * assumptions.busy),
            "network": (self.store_gbit + self.replica_gbit) / link_gbit,
        }
        self.shards_by = {name: math.ceil(share) for name, share in shares.items()}
        self.decided_by = max(self.shards_by, key=lambda name: self.shards_by[name])
        self.shards = self.shards_by[self.decided_by]
        self.store_processes = self.shards * (1 + assumptions.replicas)
        self.store_gib = self.store_processes * assumptions.shard_gib
        self.append_mb_per_shard = append / self.shards / 1e6
        self.append_tb_per_day = append / assumptions.peak_factor * DAY_S / 1e12
        self.disk_gib_per_shard = 3 * self.state_gib / self.shards

        # Audience that one shard or machine carries, and that all of them carry, least first.
        machine_link = (self.client_gbit + self.store_gbit) / link_gbit
        per_machine = {
            "processor": self.workers * (1 + assumptions.spare) / assumptions.worker_cores,
            "network": machine_link,
        }
        limits = [(name, "shard", assumptions.daily_users / share) for name, share in shares.items()]
        limits += [
            (name, "worker machine", assumptions.daily_users / share) for name, share in per_machine.items()
        ]
        self.limits = sorted(limits, key=lambda limit: limit[2])


def render_page(command: str, m: Measured, assumptions: Assumptions, p: Plan) -> str:
    """Return the plan with its working as Markdown."""
    name, owner, users = p.limits[0]
    following, _, later_users = next(limit for limit in p.limits[1:] if limit[1] == owner)
    bottleneck = f"The first bottleneck is the {name} of a {owner}: one carries {users:,.0f} daily users."
    worker_rate = f"{assumptions.busy:.0%} of 1000 ms / {m.slate_ms:.3g} ms (bench.json)"
    if m.slates_per_s is not None:
        worker_rate = (
            f"the less of {m.slates_per_s:,.0f}/s with p99 under 10 ms (load.json) and {worker_rate}"
        )
    return TEMPLATE.read_text().format(
        command=command,
        m=m,
        a=assumptions,
        p=p,
        day_s=DAY_S,
        millions=assumptions.daily_users / 1e6,
        spare_factor=1 + assumptions.spare,
        worker_mib=m.worker_bytes / 2**20,
        user_bytes=m.user_bytes[assumptions.history],
        packed_bytes=m.packed_bytes[assumptions.history],
        origins="\n".join(f"* {origin}" for origin in m.origins),
        replicas="with a replica each"
        if assumptions.replicas == 1
        else f"with {assumptions.replicas} replicas each",
        worker_rate=worker_rate,
        bottleneck=bottleneck,
        limits="\n".join(f"| {name} | {owner} | {users:,.0f} |" for name, owner, users in p.limits),
        resource=name,
        owner=owner,
        following=following,
        headroom=later_users / users,
    )


def render_offline(report: Mapping[str, Any], assumptions: Assumptions) -> str:
    """Return what offline.json says of larger logs, by the line through both sizes of each command."""
    rows, held = [], {}
    for step, (small, large) in report["figures"].items():
        more = large["rows"] - small["rows"]
        cpu_s, read, written, mib = (
            (large[name] - small[name]) / more
            for name in ("cpu_s", "bytes_read", "bytes_written", "peak_mib")
        )
        left_mib = assumptions.offline_gib * 1024 - large["peak_mib"]
        held[step] = large["rows"] + left_mib / mib if mib > 0 else math.inf
        rows.append(
            [
                f"`{step}`",
                f"{cpu_s * 1e6:,.1f}",
                *(f"{cpu_s * count / 3600:,.1f}" for count in (1e9, 1e10)),
                *(f"{a_row:,.0f}" for a_row in (read, written)),
                f"{large['peak_mib']:,.0f}",
                f"{large['rows']:,}",
                f"{mib * 2**20:,.0f}",
                f"{held[step]:,.0f}" if mib > 0 else "any",
            ]
        )
    first = min(held, key=lambda step: held[step])
    return OFFLINE.read_text().format(
        table=markdown_table(OFFLINE_COLUMNS, rows),
        fit=", ".join(f"`{setting}`" for setting in report["config"]["fit"]),
        first=first,
        most=held[first],
        a=assumptions,
        **report,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan for an audience, print the working, and name the bottleneck."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.capacity", description=main.__doc__)
    options = {f"--{member.name.replace('_', '-')}": member for member in fields(Assumptions)}
    for option, member in options.items():
        text = f"{member.metadata['help']} (default: {member.default:g})"
        parser.add_argument(option, type=type(member.default), default=member.default, help=text)
    parser.add_argument("--reports", type=Path, default=FOLDER, help="folder of the reports")
    parser.add_argument("--out", type=Path, help="the page; CAPACITY.md for the defaults, else not written")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON instead of the page")
    given = vars(parser.parse_args(arguments))
    values = {member.name: given[member.name] for member in options.values()}
    for option, member in options.items():
        low, high = member.metadata["range"]
        if not low <= values[member.name] <= high:
            parser.error(f"{option} must be from {low:g} to {high:g}.")
    assumptions = Assumptions(**values)
    try:
        measured = read_reports(given["reports"])
        plan = Plan(measured, assumptions)
    except BadInput as e:
        parser.error(str(e))
    changed = [f" {o} {values[m.name]:g}" for o, m in options.items() if values[m.name] != m.default]
    page = render_page("python -m loadtests.capacity" + "".join(changed), measured, assumptions, plan)
    if (offline := given["reports"] / "offline.json").exists():
        page += render_offline(json.loads(offline.read_text()), assumptions)
    out = given["out"] or (FOLDER / "CAPACITY.md" if not changed and given["reports"] == FOLDER else None)
    if out is not None:
        write_atomically(out, page)
    if given["json"]:
        report = {"assumed": asdict(assumptions), "measured": asdict(measured), "plan": vars(plan)}
        page = json.dumps(report, indent=2) + "\n"
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
