"""The measured figures that a plan is made of, each with the report that it is from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import BadInput

REPORTS: Final = ("memory", "bench", "load")
OPTIONAL: Final = "load"
SLATE: Final = "rerank 200"
BATCH: Final = "label 100"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and where it is from."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What one of each costs. Bytes, milliseconds of one processor, or a second's worth."""

    user_bytes: dict[int, Figure]
    """In the store, by the exposures of the user."""
    claim_bytes: Figure
    """Of an event id that is known."""
    claim_ms: Figure
    """Of the store's processor, such an id that comes alone; a part of `write_ms`."""
    claim_hashes: int
    """In which all of them lie; one cannot be divided between shards."""
    left_bytes: Figure
    """Of an event that has left its user's sequence and is still known."""
    read_ms: Figure
    """Of the store's processor, a slate."""
    write_ms: Figure
    """The same, an event that comes alone."""
    append_bytes: Figure
    """What the store appends to its file for such an event; a replica is sent as much."""
    packed_bytes: dict[int, Figure]
    """What a slate reads, by the exposures of the user."""
    worker_bytes: Figure
    """What a worker has for itself."""
    video_bytes: Figure
    """In the catalogue's file, once a machine."""
    slate_ms: Figure
    """Of a worker's processor."""
    event_ms: Figure
    """The same, an event of a body of 100 of 100 users."""
    slates_per_s: Figure | None
    """What a worker carries while p99 stays under 10 ms, where that was measured."""
    stamps: tuple[str, ...]
    """A line for each report: what, when, where."""


def read(folder: Path) -> Measured:
    """The reports in a folder.

    Raises:
        BadInput: a report is missing or is not what its program writes.
    """
    reports: dict[str, dict[str, Any]] = {}
    for name in REPORTS:
        path = folder / f"{name}.json"
        if name == OPTIONAL and not path.exists():
            continue
        try:
            reports[name] = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            raise BadInput(
                f"{path} cannot be read ({e}). Make it with `python -m loadtests.{name}` and its output."
            ) from None
    try:
        return _measured(reports)
    except (KeyError, TypeError, IndexError) as e:
        raise BadInput(
            f"A report in {folder} has no {e}. Make them again, see loadtests/README.md."
        ) from None


def _measured(reports: dict[str, dict[str, Any]]) -> Measured:
    store, catalogue = (reports["memory"]["figures"][name] for name in ("store", "catalogue"))
    bench = reports["bench"]["figures"]
    load = reports.get(OPTIONAL, {}).get("figures", {})
    carried = load.get(SLATE, {}).get("capacity")
    alone = next(row for row in catalogue["workers"] if row["workers"] == 1)

    def memory(value: float) -> Figure:
        if not value > 0:
            raise BadInput(f"memory.json has a cost of {value}, which cannot be; make it again.")
        return Figure(value, "memory.json")

    return Measured(
        user_bytes={row["events"]: memory(row["bytes_a_user"]) for row in store["sequences"]},
        claim_bytes=memory(store["claims"]["bytes_an_event"]),
        claim_ms=memory(store["claims"]["claim_1_event_server_cpu_ms"]),
        claim_hashes=store["claims"]["hashes"],
        left_bytes=memory(store["left_the_sequence_bytes_an_event"]),
        read_ms=memory(store["read_server_cpu_ms"]),
        write_ms=memory(store["write_1_event_server_cpu_ms"]),
        append_bytes=memory(store["write_1_event_aof_bytes"]),
        packed_bytes={row["events"]: memory(row["packed_bytes"]) for row in store["sequences"]},
        worker_bytes=memory((alone["rss_mib"] - alone["file_rss_mib"]) * 2**20),
        video_bytes=memory(catalogue["bytes_a_video"]),
        slate_ms=Figure(bench["rerank_200_candidates_50_events_ms"]["cpu_of_the_worker"], "bench.json"),
        event_ms=Figure(bench["label_100_events_of_100_users_ms"]["cpu_of_the_worker"] / 100, "bench.json"),
        slates_per_s=None if carried is None else Figure(carried, "load.json"),
        stamps=tuple(
            f"`{name}.json`: `{report['command']}`, {report['date']}, commit `{report['commit']}`, "
            f"{report['machine']}"
            for name, report in reports.items()
        ),
    )
