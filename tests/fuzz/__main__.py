"""`python -m tests.fuzz`: the service against its own description, then against broken bytes and requests.

Starts the real program with its embedded store on loopback, prints counts by status as JSON and writes them.
Ends with code 1 when anything was found. `make fuzz` is the same.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tests.conftest import ROOT
from tests.fuzz.broken import send_broken
from tests.fuzz.contract import check
from tests.fuzz.wire import send_changed
from tests.service import tiny_bundle
from tests.service.running import Service, running
from training.provenance import commit, machine

OUT: Final = ROOT / "loadtests" / "fuzz.json"
LIMIT_S: Final = 3600.0
"""For the part of the description; more is a hang."""


def main(
    cases: Annotated[int, typer.Option(help="Requests in all, about.")] = 100_000,
    examples: Annotated[int, typer.Option(help="Generated cases an operation, from the description.")] = 100,
    seed: int = 1,
    bundle: Annotated[
        Path | None, typer.Option(help="A version's folder; a tiny bundle if left out.")
    ] = None,
    out: Path = OUT,
) -> None:
    """Fuzz the service."""
    began, at = time.monotonic(), commit()
    against = "tiny" if bundle is None else bundle.name
    with tempfile.TemporaryDirectory() as folder:
        if bundle is None:
            bundle = Path(folder) / "bundles"
            tiny_bundle.write_root(bundle, tiny_bundle.FIRST, tiny_bundle.SECOND)
        with running(bundle, Path(folder) / "data") as service:
            described = _described(service, examples)
            left = max(2, cases - described["cases"])
            on_the_wire = _counts(partial(send_changed, service.url, left // 2, seed))
            broken = _broken(service, left - left // 2, seed)
            assert service.process.stderr is not None
            tracebacks = service.process.stderr.read().count("Traceback")
    report = {
        "command": f"python -m tests.fuzz --cases {cases} --examples {examples} --seed {seed}",
        "bundle": against,
        "commit": at,
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.monotonic() - began),
        "cases": described["cases"] + broken["cases"] + on_the_wire["cases"],
        "from_the_description": described,
        "broken": broken,
        "on_the_wire": on_the_wire,
        "tracebacks": tracebacks,
    }
    text = json.dumps(report, indent=1)
    out.write_text(text + "\n")
    print(text)
    if described["failures"] or broken["failures"] or on_the_wire["failures"] or tracebacks:
        raise typer.Exit(1)


def _described(service: Service, examples: int) -> dict[str, Any]:
    done = check(service.url, examples=examples, timeout_s=LIMIT_S)
    generated = re.search(r"(\d+) generated", done.stdout)
    if done.returncode:
        typer.echo(done.stdout + done.stderr, err=True)
    return {
        "cases": int(generated[1]) if generated else 0,
        "failures": done.returncode,
        "statuses": _counted(service),
    }


def _broken(service: Service, cases: int, seed: int) -> dict[str, Any]:
    with service.client() as client:
        document = client.get("/openapi.json").json()
    return _counts(partial(send_broken, service.url, document, cases, seed))


def _counts(run: Callable[[], Counter[int]]) -> dict[str, Any]:
    try:
        statuses = run()
    except AssertionError as e:
        typer.echo(str(e), err=True)
        return {"cases": 0, "failures": 1, "statuses": {}}
    counts = {str(status): count for status, count in sorted(statuses.items())}
    return {"cases": sum(counts.values()), "failures": 0, "statuses": counts}


def _counted(service: Service) -> dict[str, int]:
    """Requests answered so far by status, as the service itself has counted them."""
    with service.client() as client:
        text = client.get("/metrics").text
    counts: Counter[str] = Counter()
    for status, value in re.findall(r'^reelrank_requests_total{.*status="(\d+)"} (\S+)$', text, re.M):
        counts[status] += int(float(value))
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    typer.run(main)
