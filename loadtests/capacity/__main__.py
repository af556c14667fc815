"""`python -m loadtests.capacity`: measured figures and an audience in, machines and the working out."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Final

import typer

from loadtests.capacity.figures import read
from loadtests.capacity.page import page
from loadtests.capacity.plan import Assumed, plan
from models.errors import ReelrankError

HERE: Final = Path(__file__).parent.parent
PAGE: Final = HERE / "CAPACITY.md"
DEFAULTS: Final = Assumed()


def main(
    daily_users: Annotated[float, typer.Option(min=1, help="Users a day.")] = DEFAULTS.daily_users,
    requests_per_user: Annotated[
        float, typer.Option(min=0.01, help="Slates a user and day: an hour of videos, two minutes a slate.")
    ] = DEFAULTS.requests_per_user,
    events_per_user: Annotated[
        float, typer.Option(min=0.01, help="Exposures a user and day: an hour of videos of half a minute.")
    ] = DEFAULTS.events_per_user,
    peak_factor: Annotated[
        float, typer.Option(min=1, help="Peak over the day's mean: an evening of one region.")
    ] = DEFAULTS.peak_factor,
    known_share: Annotated[
        float,
        typer.Option(min=1, help="Users kept for each of a day: who came within the 90 days of retention."),
    ] = DEFAULTS.known_share,
    history: Annotated[
        int,
        typer.Option(help="Exposures of a user, one of those that were measured; 100 is all that is kept."),
    ] = DEFAULTS.history,
    window_days: Annotated[
        float, typer.Option(min=0.01, help="For how long event ids are known: up to two windows of a day.")
    ] = DEFAULTS.window_days,
    videos: Annotated[float, typer.Option(min=0, help="Of the catalogue.")] = DEFAULTS.videos,
    busy: Annotated[
        float,
        typer.Option(
            min=0.05, max=1, help="Share of anything that is used at the peak; the rest is for bursts."
        ),
    ] = DEFAULTS.busy,
    worker_cores: Annotated[
        int, typer.Option(min=1, help="Of a machine; a worker each.")
    ] = DEFAULTS.worker_cores,
    shard_gib: Annotated[
        float,
        typer.Option(min=0.1, help="Memory of a shard: small enough to be copied to a replica in minutes."),
    ] = DEFAULTS.shard_gib,
    shard_fill: Annotated[
        float,
        typer.Option(min=0.05, max=1, help="Share of that with state; rewriting the file may copy the rest."),
    ] = DEFAULTS.shard_fill,
    replicas: Annotated[int, typer.Option(min=0, help="Of each shard.")] = DEFAULTS.replicas,
    spare: Annotated[
        float, typer.Option(min=0, help="Machines of workers beyond the need: one zone of five may be away.")
    ] = DEFAULTS.spare,
    slate_in_bytes: Annotated[
        float, typer.Option(min=1, help="Of a request: 200 candidates with duration, author and tag.")
    ] = DEFAULTS.slate_in_bytes,
    slate_out_bytes: Annotated[
        float, typer.Option(min=1, help="Of its answer: 200 items with scores and objectives.")
    ] = DEFAULTS.slate_out_bytes,
    event_bytes: Annotated[float, typer.Option(min=1, help="Of an event as JSON.")] = DEFAULTS.event_bytes,
    disk_mb_per_s: Annotated[
        float, typer.Option(min=1, help="What a shard's disk takes in the long run: a network disk's.")
    ] = DEFAULTS.disk_mb_per_s,
    network_gbit_per_s: Annotated[
        float, typer.Option(min=0.1, help="Of a machine.")
    ] = DEFAULTS.network_gbit_per_s,
    reports: Annotated[Path, typer.Option(help="Folder of memory.json, bench.json and load.json.")] = HERE,
    out: Annotated[
        Path | None, typer.Option(help="The page; CAPACITY.md for the defaults, else not written.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan as JSON instead of the page.")
    ] = False,
) -> None:
    """Plan for an audience, print the working, and say what breaks first."""
    given = locals()
    assumed = Assumed(**{field.name: given[field.name] for field in fields(Assumed)})
    try:
        measured = read(reports)
        if history not in measured.user_bytes:
            known = ", ".join(map(str, measured.user_bytes))
            print(f"capacity: --history {history} was not measured; there is {known}.", file=sys.stderr)
            sys.exit(2)
        found = plan(measured, assumed)
    except ReelrankError as e:
        print(f"capacity: {e}", file=sys.stderr)
        sys.exit(2)
    text = page(_command(assumed), measured, assumed, found)
    if out is None and assumed == DEFAULTS and reports == HERE:
        out = PAGE
    if out is not None:
        draft = out.with_name(out.name + ".draft")
        draft.write_text(text)
        draft.replace(out)
    if as_json:
        plan_json = {"assumed": asdict(assumed), "measured": asdict(measured), "plan": asdict(found)}
        print(json.dumps(plan_json | {"decides": found.decides}, indent=2))
    else:
        print(text, end="")


def _command(assumed: Assumed) -> str:
    """How to make this page again."""
    said = [
        f"--{field.name.replace('_', '-')} {value:g}"
        for field in fields(Assumed)
        if (value := getattr(assumed, field.name)) != getattr(DEFAULTS, field.name)
    ]
    return " ".join(["python -m loadtests.capacity", *said])


if __name__ == "__main__":
    typer.run(main)
