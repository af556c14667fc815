"""`python -m training validate`: what estimates and experiments find where the truth is known, as reports."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from scipy.stats import binom

from training.ab_tests import sample_ratio_p, users_per_arm
from training.command_line import write_json
from training.experiments.engine import write_report
from training.experiments.options import Json, Out
from training.experiments.validation.coverage import coverage, overlap
from training.experiments.validation.equal_arms import SMALLEST_EFFECT, equal_arms
from training.experiments.validation.open_bandit import open_bandit as estimate_open_bandit
from training.experiments.validation.planted_effect import planted_effect
from training.experiments.validation.planted_slates import PlantedSlates
from training.experiments.validation.planted_users import BEFORE_DAYS, COEFFICIENT_OF_VARIATION, DAYS
from training.progress import progress
from training.provenance import provenance
from training.staging import refuse_existing

app = typer.Typer(no_args_is_help=True, help="Estimates and experiments on data whose truth is known.")

Seed = Annotated[int, typer.Option(min=0, help="of everything that is drawn")]

PUBLISHED_EFFECT = 0.00039
"""Of LDA in an online test of fifteen days, on watch time (Xu et al.)."""


@app.command("estimates")
def estimates(
    out: Out,
    logs: Annotated[int, typer.Option(min=2, help="planted logs")] = 500,
    users: Annotated[int, typer.Option(min=50, help="of each log")] = 300,
    resamples: Annotated[int, typer.Option(min=100, help="of each bootstrap")] = 1000,
    open_bandit: Annotated[
        Path | None, typer.Option(help="the sample of the Open Bandit Dataset: a real pair of policies")
    ] = None,
    seed: Seed = 0,
    figures: Json = None,
) -> None:
    """Report how often intervals of off-policy estimates hold the true value."""
    refuse_existing(out)
    about = provenance()
    pairs = None if open_bandit is None else estimate_open_bandit(open_bandit, resamples)
    planted = PlantedSlates.draw(3 * users, seed)  # from whom those of each log are drawn
    with progress() as show:
        found = coverage(
            planted,
            logs=logs,
            users=users,
            resamples=resamples,
            seed=seed,
            on_progress=lambda share: show("planted logs", share),
        )
    first = overlap(planted, planted.log(users, seed))
    report: dict[str, Any] = {
        "kind": "validate_estimates",
        **about,
        "config": {"logs": logs, "users": users, "resamples": resamples, "seed": seed},
        "chance": _by_chance(0.95, logs),
        "truth": planted.truth,
        "logging_value": planted.logging_value,
        "overlap": asdict(first),
        "planted": [{"estimator": name, **one} for name, one in found.items()],
        "open_bandit": pairs,
    }
    _finish(out, report, figures)


@app.command("experiments")
def experiments(
    out: Out,
    replays: Annotated[int, typer.Option(min=2, help="random splits of users into equal arms")] = 1000,
    users: Annotated[int, typer.Option(min=200, help="of both equal arms together")] = 4000,
    effect: Annotated[float, typer.Option(help="planted, relative")] = 0.01,
    power_replays: Annotated[int, typer.Option(min=1, help="experiments with a planted effect")] = 400,
    seed: Seed = 0,
    figures: Json = None,
) -> None:
    """Report how often experiments find what is there, and what is not."""
    refuse_existing(out)
    about = provenance()
    with progress() as show:
        equal = equal_arms(
            users=users, replays=replays, seed=seed, on_progress=lambda share: show("equal arms", share)
        )
        power = planted_effect(
            effect,
            replays=power_replays,
            seed=seed,
            on_progress=lambda share: show("planted effect", share),
        )
    split = [51_000, 49_000]
    report: dict[str, Any] = {
        "kind": "validate_experiments",
        **about,
        "config": {
            "replays": replays,
            "users": users,
            "days": DAYS,
            "before_days": BEFORE_DAYS,
            "smallest_effect": SMALLEST_EFFECT,
            "power_replays": power_replays,
            "seed": seed,
        },
        "chance": _by_chance(0.05, replays),
        "equal_arms": equal,
        "planted_effect": power,
        "sample_ratio": {"users": split, "p_value": sample_ratio_p(split, [1, 1])},
        "scale": [
            {"effect": e, "users_per_arm": users_per_arm(e, COEFFICIENT_OF_VARIATION)}
            for e in (0.05, 0.01, 0.001, PUBLISHED_EFFECT)
        ],
        "coefficient_of_variation": COEFFICIENT_OF_VARIATION,
    }
    _finish(out, report, figures)


def _by_chance(share: float, trials: int) -> list[float]:
    """Return the bounds within which a share of independent trials lies nineteen times in twenty."""
    return [float(x) / trials for x in binom.interval(0.95, trials, share)]


def _finish(out: Path, report: dict[str, Any], figures: Path | None) -> None:
    write_report(out, "report", report)
    write_json(figures, report)
    typer.echo(f"wrote {out / 'report.md'} and report.json")
