"""From the outcomes of all jobs to everything that the label report says."""

# Shape suffixes: N rows.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from models.arrays import F32, F64
from training.compare._jobs import Job, Outcome, Result
from training.compare._report import Row, Summary, over_seeds, summary, versus
from training.compare._stand import Among, Standing, standing
from training.compare.labels._columns import COLUMNS
from training.compare.labels._fit import KEEPS_SCORES
from training.compare.labels._front import SHARES, beyond, mixes
from training.compare.labels._judge import BINS_S
from training.compare.labels._methods import Method
from training.compare.labels._world import CompareConfig, World
from training.strata import DurationGroups

REFERENCE: Final = "labelcraft"
SCALARS: Final = ("label_duration_correlation", "score_duration_correlation", "epochs")
"""Figures of a job that are no means over users."""


class Mix(NamedTuple):
    """One mix of two recommenders."""

    share: float
    """a: how much the second counts."""
    metrics: dict[str, Summary]


@dataclass(frozen=True)
class Front:
    """What fixed mixes of two of the recommenders reach."""

    of: tuple[str, str]
    points: list[Mix]
    beyond: dict[str, float]
    """How far each method's NWTG and NEG lie beyond the front, the smaller of the two leads."""


class Octile(NamedTuple):
    """An eighth of the exposures before the test days, by duration."""

    from_s: float
    to_s: float
    rows: int
    explicit_share: float
    watch_time_s: float
    watch_ratio: float
    """Of the means: seconds watched a second shown."""


@dataclass(frozen=True)
class Findings:
    """Everything the report says besides where it comes from."""

    rows: list[Row]
    reference: Row | None
    cuts: tuple[int, ...]
    standings: list[Standing]
    """Of the reference, at the largest k: in each of the columns and the composite, among all rows and, where
    there are any, among those of the paper. Empty without a reference."""
    front: Front | None
    octiles: list[Octile]
    exposed: list[int]
    """Histogram of the durations there were to choose from."""

    judged_users: int
    """Users with more than the largest k exposures in the test window."""

    def as_json(self) -> dict[str, Any]:
        """For `report.json`."""
        front = None
        if self.front is not None:
            points = [
                {"share": share, **{name: figure._asdict() for name, figure in metrics.items()}}
                for share, metrics in self.front.points
            ]
            front = {"of": self.front.of, "points": points, "beyond": self.front.beyond}
        return {
            "cuts": self.cuts,
            "standings": [stand.as_json() for stand in self.standings],
            "front": front,
            "durations": [octile._asdict() for octile in self.octiles],
            "histogram": {"edges_s": BINS_S, "exposed": self.exposed},
            "rows": [row.as_json() for row in self.rows],
        }

    def columns(self, k: int | None = None) -> list[str]:
        """`nwtg@k`, `neg@k`, `ds@k`, of the largest k unless told."""
        return [f"{name}@{self.cuts[-1] if k is None else k}" for name in COLUMNS]

    def plain(self) -> list[Row]:
        """Rows with figures that are no ablations; where there are only ablations, those."""
        fitted = [row for row in self.rows if row.refused is None]
        return [row for row in fitted if not row.more["ablation"]] or fitted


def assemble(
    world: World, methods: Sequence[Method], outcomes: Mapping[Job, Outcome], config: CompareConfig
) -> Findings:
    """Rows in the order of the methods, each against LabelCraft where that is among them."""
    window = world.window
    seeds = [config.seed + i for i in range(config.seeds)]
    found = {m.name: [outcomes[Job(m.name, seed)] for seed in seeds] for m in methods}
    fitted = {name: [o.result for o in all_] for name, all_ in found.items() if not _refusal(all_)}
    users = {name: over_seeds([result["values"] for result in results]) for name, results in fitted.items()}
    others = [name for name in fitted if name != REFERENCE]
    against = (
        versus(
            users[REFERENCE],
            [users[name] for name in others],
            window.measures,
            resamples=config.resamples,
            seed=config.seed,
        )
        if REFERENCE in fitted
        else [{} for _ in others]
    )
    compared = dict(zip(others, against, strict=True))
    rows = []
    for m in methods:
        results = fitted.get(m.name)
        metrics = {} if results is None else _metrics(world, results)
        more: dict[str, Any] = {"labels": list(m.labels), "ablation": m.ablation, "paper": m.paper}
        if results is not None:
            more["histogram"] = np.sum([result["histogram"] for result in results], axis=0).tolist()
            more["seconds"] = {
                part: round(float(np.mean([r["seconds"][part] for r in results])), 2)
                for part in ("labels", "recommender")
            }
            if m.name == REFERENCE:
                more["curves"] = [result["curves"] for result in results]
        rows.append(Row(m.name, m.says, _refusal(found[m.name]), metrics, compared.get(m.name, {}), more))
    reference = next((row for row in rows if row.method == REFERENCE and row.refused is None), None)
    judged = len(window.users(window.cuts[-1]))
    whole = Findings(rows, reference, window.cuts, [], None, octiles(world), window.exposed(), judged)
    standings = _standings(whole, reference) if reference else []
    front = _front(world, whole, [fitted.get(name) for name in KEEPS_SCORES])
    return replace(whole, standings=standings, front=front)


def _standings(findings: Findings, reference: Row) -> list[Standing]:
    rows, figures = findings.plain(), [*findings.columns(), f"composite@{findings.cuts[-1]}"]
    circles: list[Among] = ["all", "paper"] if any(row.more["paper"] for row in rows) else ["all"]
    return [standing(rows, reference, figure, among) for among in circles for figure in figures]


def octiles(world: World) -> list[Octile]:
    """Who watches and likes what, by length, on the rows that every recommender is fitted on."""
    known = world.log.take(world.known)
    duration, watched, explicit = known.duration_s, known.watch_time_s, known.explicit
    group = DurationGroups(8).fit(duration)(torch.from_numpy(duration)).numpy()
    out = []
    for g in np.unique(group):
        mine = group == g
        out.append(
            Octile(
                float(duration[mine].min()),
                float(duration[mine].max()),
                int(mine.sum()),
                float(explicit[mine].mean()),
                float(watched[mine].mean()),
                float(watched[mine].mean() / duration[mine].mean()),
            )
        )
    return out


def _refusal(outcomes: Sequence[Outcome]) -> str | None:
    return next((outcome.refused for outcome in outcomes if outcome.refused is not None), None)


def _metrics(world: World, results: Sequence[Result]) -> dict[str, Summary]:
    by_seed: list[dict[str, float | None]] = []
    for result in results:
        values: dict[str, F64] = {name: np.array(value) for name, value in result["values"].items()}
        by_seed.append({**world.window.figures(values), **{name: result[name] for name in SCALARS}})
    return {name: summary([seed[name] for seed in by_seed]) for name in by_seed[0]}


def _front(world: World, findings: Findings, pair: Sequence[Sequence[Result] | None]) -> Front | None:
    one, other = pair
    if one is None or other is None:
        return None
    scores: list[list[F32]] = [[np.array(r["scores"], np.float32) for r in seeds] for seeds in (one, other)]
    by_seed = [mixes(world.window, *both) for both in zip(*scores, strict=True)]
    points = [
        Mix(share, {name: summary([seed[i][name] for seed in by_seed]) for name in findings.columns()})
        for i, share in enumerate(SHARES)
    ]
    x, y, _ = findings.columns()
    front_x, front_y = ([point.metrics[name].mean or 0.0 for point in points] for name in (x, y))
    margins = {
        row.method: beyond(row.metrics[x].mean or 0.0, row.metrics[y].mean or 0.0, front_x, front_y)
        for row in findings.plain()
    }
    return Front((KEEPS_SCORES[0], KEEPS_SCORES[1]), points, margins)
