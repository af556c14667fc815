"""`python -m loadtests.log_to_promotion`: the whole way from a log to a promotion, on simulated users.

1. A service starts with a bundle that knows none of the videos, and shows some users random slates. The first
   bundle is fitted on their log and promoted.
2. The service answers all users with it, explores, and logs.
3. Two bundles are fitted: one on that log, one on the log with feedback joined to the wrong exposures.
4. Both are estimated from the log.
5. An experiment compares the first of them with the active bundle, on the same users in the days after.
6. `promote --require` stops the second and lets the first through.
7. Each bundle answers fresh users of the same population: the truth, which nothing above has seen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import typer

from loadtests.command import BundleOption, LoadtestError, log_progress, make_app, run
from loadtests.environment import Service, version_folder
from loadtests.host import run_metadata
from loadtests.simulate import CANDIDATES, DAY_MS, POSITIONS, Feed
from models.manifest import Evaluation, Manifest
from models.schema import FLAGS
from models.served_log import LoggedEvent, decoded_lines, log_files
from models.store import BundleStore
from service.client import Client
from training.simulator import Population, PopulationConfig

VIDEOS: Final = 400
DAYS: Final = 6
"""Of the log, and of the experiment."""
FIRST_USERS: Final = 130
EPOCHS: Final = 8
COUNTERFACTUAL: Final = 0.5
"""As in the released recipe: without it a fit this brief does not lower what was skipped."""
TEST_DAYS: Final = 2
"""The last of them has only begun: sessions that go on after midnight."""
START_MS: Final = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
RANDOM: Final = "epsilon=1"
EXPLORE: Final = "temperature=0.05,epsilon=0.2"
EXPERIMENT: Final = "fitted"
EFFECT: Final = 0.1
"""Smallest relative effect of interest."""
REQUIREMENTS: Final[dict[str, Any]] = {
    "not_worse_by": {"mae_s": 0.01, "xauc": 0.01},
    "active_evaluation": "active.json",
    "behaviours": {
        "gains_after_hate": {"most": 0.0},
        "gains_after_skip": {"most": 0.02},
        "gains_after_whole_view": {"least": 0.9},
    },
    "estimate": {"file": "estimate.json"},
    "experiment": {"file": "experiment/report.json"},
}


def main(
    out: Annotated[Path, typer.Option(help="A new folder for the report.")],
    users: Annotated[int, typer.Option(min=50, max=10_000)] = 1600,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    bundle: BundleOption = None,
) -> None:
    """Go the whole way and write a report; twenty minutes on two idle cores. Needs the extra `train`."""
    from training.experiments.engine import write_report  # imports the training stack

    if out.exists():
        raise LoadtestError(f"{out} exists; name a new folder.")
    about = run_metadata(f"python -m loadtests.log_to_promotion --out {out}")
    with tempfile.TemporaryDirectory(prefix="promotion-") as folder:
        way = LogToPromotion(Path(folder), version_folder(bundle), users, seed)
        write_report(out, "report", {"kind": "log_to_promotion", **about, **way.go()})
    print(f"wrote {out / 'report.md'} and report.json")


class LogToPromotion:
    """The way of one population, in a folder of its own.

    Args:
        folder: an empty one.
        version: of the bundle that answers at first.
        users: of the population.
        seed: of everything that is drawn.
    """

    def __init__(self, folder: Path, version: Path, users: int, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._bundles, self._log = folder / "bundles", folder / "log"
        shutil.copytree(version, self._bundles / version.name)
        BundleStore(self._bundles).promote(version.name)
        self._population = Population.draw(PopulationConfig(users=users, videos=VIDEOS), seed)
        self._starts = 0

    def go(self) -> dict[str, Any]:
        """Take all steps, and return what they found."""
        first = Feed(self._population, START_MS - DAYS * DAY_MS, self._seed + 2)
        first_log = self._folder / "first-log"
        self._serve(first, START_MS, first_log, RANDOM, users=FIRST_USERS)
        active = self._fit("first", first_log)
        self._run("training", "promote", active, "--bundles", self._bundles)

        feed = Feed(self._population, START_MS, self._seed)
        self._serve(feed, START_MS + DAYS * DAY_MS, self._log, EXPLORE)
        logged = {"sessions": len(feed.sessions), "exposures": len(feed.exposures)}

        mixed = self._folder / "mixed-log"
        mix_feedback_up(self._log, mixed, self._seed)
        with ThreadPoolExecutor(2) as pool:
            fitted = pool.map(self._fit, ("fitted", "mixed"), (self._log, mixed))
            candidates = dict(zip(("fitted", "fitted on mixed-up feedback"), fitted, strict=True))
            estimates = dict(zip(candidates, pool.map(self._estimate, candidates.values()), strict=True))
        versions = {"active": active, **candidates}

        arms = f"active={active},fitted={versions['fitted']}"
        self._run("service", "experiment", "start", EXPERIMENT, "--arms", arms, "--share", "1")
        self._serve(feed, START_MS + 2 * DAYS * DAY_MS, self._log)
        experiment = self._folder / "experiment"
        self._run(
            *("training", "experiment", EXPERIMENT, "--log", self._log, "--out", experiment),
            *("--arms", "active,fitted", "--effect", EFFECT),
        )
        # The worse one first: once the other is active, it has seen the days of the comparison.
        mixed_up = self._promote(candidates["fitted on mixed-up feedback"], self._data("mixed"))
        gates = {"fitted": self._promote(candidates["fitted"], self._data("fitted"))}
        gates["fitted on mixed-up feedback"] = mixed_up
        return {
            "config": {
                "users": self._population.config.users,
                "videos": VIDEOS,
                "days": DAYS,
                "candidates": CANDIDATES,
                "positions": POSITIONS,
                "explore": EXPLORE,
                "epochs": EPOCHS,
                "first_users": FIRST_USERS,
                "effect": EFFECT,
                "seed": self._seed,
            },
            "log": logged,
            "versions": versions,
            "figures": {name: self._figures(version) for name, version in candidates.items()},
            "estimates": estimates,
            "experiment": json.loads((experiment / "report.json").read_text()),
            "gates": gates,
            "promoted": BundleStore(self._bundles).current(),
            "truth": {name: self._truth(version) for name, version in versions.items()},
        }

    def _serve(
        self, feed: Feed, until_ms: int, log: Path, explore: str | None = None, users: int | None = None
    ) -> None:
        """Let users use a service that answers from the folder of versions and adds to a log."""
        self._starts += 1
        env = {"REELRANK_LOG_DIR": str(log)}
        if explore is not None:
            env["REELRANK_EXPLORE"] = explore
        data = self._folder / f"data-{self._starts}"
        with Service(self._bundles, data, env=env) as service, Client(service.url) as client:
            feed.run(client, until_ms, most_sessions=100, users=users)
        log_progress("log_to_promotion", f"{len(feed.sessions):,} sessions")

    def _fit(self, name: str, log: Path) -> str:
        data, fitted, note = self._data(name), self._folder / f"{name}-run", self._folder / f"{name}.json"
        self._run("training", "prepare", "--dataset", "served", "--source", log, "--out", data)
        self._run(
            *("training", "fit", "smoke_objectives", "--data", data, "--out", fitted, "--threads", 1),
            *("--set", f"loop.epochs={EPOCHS}", "--set", f"seed={self._seed}"),
            *("--set", f"loop.counterfactual={COUNTERFACTUAL}", "--test-days", TEST_DAYS),
        )
        self._run(
            *("training", "export", fitted, "--to", self._bundles, "--allow-unlearned", "--json", note),
        )
        return str(json.loads(note.read_text())["version"])

    def _estimate(self, version: str) -> dict[str, Any]:
        self._evidence(version).mkdir()
        file = self._evidence(version) / "estimate.json"
        self._run(
            *("training", "estimate", "--log", self._log, "--bundle", self._bundles / version),
            *("--positions", POSITIONS, "--json", file),
        )
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def _promote(self, version: str, data: Path) -> dict[str, Any]:
        folder = self._evidence(version)
        first_day = datetime.fromtimestamp(self._evaluation(version).from_ms / 1000, UTC)
        self._run(
            *("training", "evaluate", "--bundle", self._bundles, "--data", data),
            *("--from", f"{first_day:%Y-%m-%d}"),
            *("--json", folder / "active.json"),
        )
        shutil.copytree(self._folder / "experiment", folder / "experiment")
        (folder / "requirements.json").write_text(json.dumps(REQUIREMENTS))
        result = self._command(
            *("training", "promote", version, "--bundles", self._bundles),
            *("--require", folder / "requirements.json"),
        )
        table = [line for line in result.stdout.splitlines() if line.startswith("|")]
        return {"code": result.returncode, "table": table, "error": result.stderr.strip()}

    def _truth(self, version: str) -> dict[str, Any]:
        """Return what fresh users watch in half the days, the same users for every version."""
        BundleStore(self._bundles).promote(version)
        (self._bundles / "EXPERIMENTS").unlink(missing_ok=True)
        feed = Feed(self._population, START_MS, self._seed + 1)
        self._serve(feed, START_MS + DAYS * DAY_MS // 2, self._folder / f"truth-{version}")
        watched_s = np.array([row["watch_time_s"] for row in feed.sessions])
        by_user: dict[str, float] = dict.fromkeys((row["user_id"] for row in feed.sessions), 0.0)
        for row in feed.sessions:
            by_user[row["user_id"]] += row["watch_time_s"]
        a_user_s = np.array([*by_user.values()])
        error_s = 1.96 * float(a_user_s.std(ddof=1)) / len(a_user_s) ** 0.5
        return {
            "watch_time_s_a_session": float(watched_s.mean()),
            "sessions": len(watched_s),
            "watch_time_s_a_user": float(a_user_s.mean()),
            "interval": [float(a_user_s.mean()) - error_s, float(a_user_s.mean()) + error_s],
        }

    def _figures(self, version: str) -> dict[str, float | None]:
        names = ("mae_s", "xauc", "gains_after_hate", "gains_after_skip", "gains_after_whole_view")
        metrics = self._evaluation(version).metrics
        return {name: metrics.get(name) for name in names}

    def _evaluation(self, version: str) -> Evaluation:
        evaluation = Manifest.read(self._bundles / version).evaluation
        assert evaluation is not None
        return evaluation

    def _data(self, name: str) -> Path:
        return self._folder / f"{name}-data"

    def _evidence(self, version: str) -> Path:
        return self._folder / f"evidence-{version}"

    def _run(self, program: str, *arguments: object) -> None:
        result = self._command(program, *arguments)
        if result.returncode != 0:
            raise LoadtestError(f"python -m {program} {arguments[0]}: {result.stderr.strip()[-500:]}")

    def _command(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        log_progress("log_to_promotion", f"python -m {program} {' '.join(map(str, arguments[:2]))}")
        command = [sys.executable, "-m", program, *map(str, arguments)]
        if program == "service":
            command += ["--bundle", str(self._bundles)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def mix_feedback_up(log: Path, out: Path, seed: int) -> None:
    """Write the events of a served log with the feedback of each at another one: a join that went wrong."""
    events = [event for path in log_files(log, "events") for event in decoded_lines(path, LoggedEvent)]
    others = [events[i] for i in np.random.default_rng(seed).permutation(len(events))]
    out.mkdir()
    with (out / "events-mixed.ndjson").open("wb") as file:
        for event, other in zip(events, others, strict=True):
            feedback = {name: getattr(other, name) for name in ("watch_time_s", *FLAGS)}
            file.write(msgspec.json.encode(msgspec.structs.replace(event, **feedback)) + b"\n")


app = make_app("log_to_promotion", main)

if __name__ == "__main__":
    run(app)
