"""`python -m loadtests.peers`: the same graph and request behind BentoML and LitServe, in turn with ours."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from loadtests.machine import stamp
from loadtests.peers.environments import FOLDER, PeerUnavailable, version
from loadtests.peers.report import placed, summary, table
from loadtests.peers.rounds import CONNECTIONS, Pace, PeerFailed, PeersDiffer, agree, compare
from loadtests.peers.servers import READY, servers
from loadtests.peers.traffic import CANDIDATES, HISTORY, histories, requests, slates
from loadtests.program import ProgramFailed, version_folder
from models.errors import ReelrankError
from models.manifest import VOCABULARY
from models.vocabulary import Vocabulary

AGREEING: Final = 20
"""Requests whose answers are compared before anything is timed."""


def main(
    seconds: Annotated[float, typer.Option(min=0.2, max=60.0, help="Of one turn of one server.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Turns of each, with and without pauses.")] = 7,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="Of each server; may be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    readme: Annotated[Path | None, typer.Option(help="Put the table into this file's block too.")] = None,
    smoke: Annotated[bool, typer.Option(help="Half a second each: whether it runs, not how fast.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="A folder of versions, or one.")] = None,
    environments: Annotated[Path, typer.Option(help="Where the peers are, or get installed.")] = FOLDER,
) -> None:
    """Compare them on loopback, and print the table."""
    pace = Pace(seconds, rounds, users=100, slates=500, workers=tuple(workers or (1, 2)))
    if smoke:
        pace = Pace(seconds=0.5, rounds=1, users=5, slates=20, workers=tuple(workers or (1,)))
    for file in (json_file, readme):
        if file is not None and not file.absolute().parent.is_dir():
            refuse(f"{file.absolute().parent} is no folder; name a file in one")
    if readme is not None:
        try:
            placed(readme.read_text(), "")  # better told now than after minutes
        except (OSError, ValueError) as e:
            refuse(f"{readme}: {e}")
    try:
        report = run(version_folder(bundle), environments, pace)
    except (ReelrankError, ProgramFailed, PeerUnavailable, PeersDiffer, PeerFailed) as e:
        refuse(str(e))
    except KeyboardInterrupt:
        sys.exit(130)
    command = f"python -m loadtests.peers --seconds {pace.seconds:g} --rounds {pace.rounds}"
    report = stamp(command + "".join(f" --workers {n}" for n in pace.workers)) | report
    written = table(report)
    sys.stdout.write(written)
    if json_file is not None:
        write(json_file, json.dumps(report, indent=1) + "\n")
    if readme is not None:
        write(readme, placed(readme.read_text(), written))


def run(version_of_ours: Path, environments: Path, pace: Pace) -> dict[str, Any]:
    """Every comparison, one after the other.

    Raises:
        PeerUnavailable, PeersDiffer, PeerFailed, ProgramFailed, ReelrankError: see `servers` and `rounds`.
    """
    videos = list(Vocabulary.read(version_of_ours / VOCABULARY).rows("video_id"))
    known = histories(pace.users, videos)
    bodies = slates(pace.slates, pace.users, videos)
    runs = []
    for workers in pace.workers:
        tell(f"{workers} worker{'s' * (workers > 1)} each")
        # Short, because a socket's path has at most some hundred bytes.
        with (
            tempfile.TemporaryDirectory(prefix="peers-") as folder,
            servers(version_of_ours, Path(folder), environments, workers, known) as started,
        ):
            agree(started, bodies[:AGREEING])
            tell(f"all of them answer {len(bodies[:AGREEING])} requests alike")
            runs.append(summary(workers, compare(started, requests(bodies), pace)))
    return {
        "bundle": version_of_ours.name,
        "versions": {name: version(name) for name in READY},
        "request": {"candidates": CANDIDATES, "events": HISTORY},
        "connections": CONNECTIONS,
        "seconds": pace.seconds,
        "rounds": pace.rounds,
        "runs": runs,
    }


def write(path: Path, text: str) -> None:
    """All of it or nothing."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text)
    draft.replace(path)
    tell(f"wrote {path}")


def tell(what: str) -> None:
    """One line, for somebody who waits."""
    print(f"peers: {what}", file=sys.stderr, flush=True)


def refuse(why: str) -> NoReturn:
    """Say what is wrong in one line, and end."""
    tell(why)
    sys.exit(2)


if __name__ == "__main__":
    # Whoever asks us to end wants what we started to end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    typer.run(main)
