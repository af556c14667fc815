"""`python -m loadtests.peers`: the same graph and requests behind BentoML and LitServe, in turn with ours."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.client import post
from loadtests.command import (
    BundleOption,
    JsonOption,
    check_folder,
    log_progress,
    make_app,
    run,
    write_atomically,
    write_report,
)
from loadtests.environment import version_folder
from loadtests.peers.comparison import CONNECTIONS, check_agreement, compare, summarize_ratios
from loadtests.peers.servers import FOLDER, READY_PATHS, pinned_version, start_servers
from loadtests.report import render_peers, replace_block
from loadtests.traffic import Traffic
from models.manifest import VOCABULARY
from models.vocabulary import Vocabulary

SEED: Final = 20
USERS: Final = 100
HISTORY: Final = 50
CANDIDATES: Final = 200
SLATES: Final = 500
AGREEMENT_REQUESTS: Final = 20
"""Requests whose replies are compared before anything is timed."""


def main(
    seconds: Annotated[float, typer.Option(min=0.2, max=60.0, help="Of one turn of one server.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Turns of each, closed loop and open loop.")] = 7,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="Of each server; may be repeated.")] = None,
    json_file: JsonOption = None,
    readme: Annotated[Path | None, typer.Option(help="Replace this page's block with the table.")] = None,
    smoke: Annotated[bool, typer.Option(help="Half a second each: checks that it runs.")] = False,
    bundle: BundleOption = None,
    environments: Annotated[Path, typer.Option(help="Where the peers are or get installed.")] = FOLDER,
) -> None:
    """Compare the servers on loopback and print the table."""
    seconds, rounds = (0.5, 1) if smoke else (seconds, rounds)
    workers = workers or ([1] if smoke else [1, 2])
    command = f"python -m loadtests.peers --seconds {seconds:g} --rounds {rounds}"
    command += "".join(f" --workers {count}" for count in workers)
    check_folder(json_file, readme)
    if readme is not None:
        replace_block(readme.read_text(), "peers", "")  # an error after minutes would be late
    version = version_folder(bundle)
    runs = [compare_servers(version, environments, count, seconds, rounds) for count in workers]
    report: dict[str, Any] = {
        "bundle": version.name,
        "versions": {name: pinned_version(name) for name in READY_PATHS},
        "request": {"candidates": CANDIDATES, "events": HISTORY},
        "connections": CONNECTIONS,
        "seconds": seconds,
        "rounds": rounds,
        "runs": runs,
    }
    report = write_report(command, report, json_file)
    if readme is not None:
        write_atomically(readme, replace_block(readme.read_text(), "peers", render_peers(report)))
    sys.stdout.write(render_peers(report))


def compare_servers(
    version: Path, environments: Path, workers: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Start all servers with so many workers each, check that they agree, and compare them."""
    log_progress("peers", f"{workers} worker{'s' * (workers > 1)} each")
    traffic = Traffic(SEED, USERS, list(Vocabulary.read(version / VOCABULARY).id_to_index("video_id")))
    histories = {user: traffic.history_events(HISTORY, [user]) for user in traffic.users}
    # The peers return scores and watch time only.
    bodies = [traffic.slate(traffic.users[i % USERS], CANDIDATES) | {"objectives": []} for i in range(SLATES)]
    with (
        tempfile.TemporaryDirectory(prefix="peers-") as folder,  # short, because a socket's path is limited
        start_servers(version, Path(folder), environments, workers, histories) as servers,
    ):
        requests = [post("/rerank", json.dumps(body).encode()) for body in bodies]
        check_agreement(servers, requests[:AGREEMENT_REQUESTS])
        return summarize_ratios(workers, compare(servers, requests, seconds, rounds))


app = make_app("peers", main)

if __name__ == "__main__":
    run(app)
