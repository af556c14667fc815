"""The rows of the comparison: what a recommender is fitted on, or what takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from training.experiments.config import MethodSpec
from training.labels import heuristic_label_makers

Order = Literal["random", "longest", "video_watch_time", "video_feedback"]
"""Of candidates without a recommender."""
Pick = Literal["past", "hindsight", "past (paper)", "hindsight (paper)"]
"""Which windows a rule was picked on, those before the evaluated one or the evaluated ones themselves, and
whether by the composite of LabelCraft's own three objectives."""

FROZEN: Final = "frozen"
SURROGATE: Final = "surrogate index"
DURATION: Final = "duration"
"""scale(d), as a part of rules."""


@dataclass(frozen=True)
class Method(MethodSpec):
    """One row. A recommender is fitted on the sum of labels, unless `order` is given."""

    parts: Mapping[str, float] = field(default_factory=dict)
    """Weights of label makers by their names in `POST /label`, of `DURATION`, and of learned rows."""
    standardised: bool = False
    """Whether each part is divided by its deviation over the known rows."""
    learned: Mapping[str, Any] | None = None
    """What differs from the experiment's `ClosedFormConfig`, where the label is learned."""
    order: Order | None = None
    pick: Pick | None = None
    duration_blind: bool = False
    """Whether the recommender does not see durations."""
    learner: Literal["closed_form", "one_step"] = "closed_form"
    """Of a learned label, see `RunConfig.learner`."""
    decisive: bool = False
    """Whether claims rest on the row: trees and intervals enough to compare it."""
    central: bool = False
    """Whether the first of them do: it gets all redraws of every recommender."""
    network: bool = False
    """Whether SASRec4SV is fitted on a row that is not central, too."""


def _maker(name: str, description: str, *makers: str, **options: Any) -> Method:
    return Method(name, description, parts=dict.fromkeys(makers or (name,), 1.0), **options)


def _rule(name: str, *, standardised: bool = True, **parts: float) -> Method:
    return Method(name, "a rule by hand", parts=parts, standardised=standardised, decisive=True)


def _learned(
    name: str, description: str, *, decisive: bool = True, central: bool = False, **changes: Any
) -> Method:
    return Method(
        name,
        description,
        parts={name: 1.0},
        learned=changes,
        decisive=decisive,
        central=central,
        ablation=True,
    )


def _one_draw(name: str, description: str, **changes: Any) -> Method:
    return _learned(name, description, decisive=False, redraws=1, **changes)


_PICKS: Final[dict[Pick, str]] = {
    "past": "the windows before",
    "hindsight": "the windows evaluated",
    "past (paper)": "the windows before, of LabelCraft's own objectives",
    "hindsight (paper)": "the windows evaluated, of LabelCraft's own objectives",
}
_DML: Final = ("dml_wpr_d", "dml_ev_d", "dml_ev_u", "dml_ev_v", "dml_lv_d", "dml_lv_u", "dml_lv_v")
_DVR: Final = "the recommender does not see the duration"

RULES: Final = (
    _rule("w + e + .3d", standardised=False, wt=1.0, ef=1.0, duration=0.3),
    _rule("LV + .15d", dml_lv=1.0, duration=0.15),
    _rule("LV + e + .3d", dml_lv=1.0, ef=1.0, duration=0.3),
    _rule("PCR + 2WT", pcr=1.0, wt=2.0),
    _rule("PCR + 2WT + .3d + .2e", pcr=1.0, wt=2.0, duration=0.3, ef=0.2),
)
"""Sums of label makers with weights by hand, each divided by its deviation unless said otherwise."""

METHODS: Final = (
    Method(
        "labelcraft",
        "a monotone table learned through an exact ridge regression",
        parts={"labelcraft": 1.0},
        learned={},
        decisive=True,
        central=True,
    ),
    _learned("free", "the same without monotone labels", monotone=False, learning_rate=0.01),
    Method(
        FROZEN,
        "the table at its start, .2 + .3 (scale(w) + e)",
        parts={FROZEN: 1.0},
        learned={"steps": 0},
        decisive=True,
        central=True,
    ),
    _learned("shuffled", "each row with the outer gradient of another", central=True, gradient="shuffled"),
    _learned("selected", "the step with the best composite on the windows learned from", select=True),
    _learned("shuffled and selected", "both", gradient="shuffled", select=True),
    _learned("one step", "the table by the gradient of one step of gradient descent", gradient="one_step"),
    Method(
        "one-step network",
        "LabelCraft's own network, through one step of a recommender",
        parts={"one-step network": 1.0},
        learned={},
        learner="one_step",
        decisive=True,
    ),
    _learned("paper objectives", "usage time, engagement and duration spread", objectives="paper"),
    _one_draw("one draw", "all held-out users once, without redraws"),
    _one_draw("one draw: next-day return", "this objective besides", next_day_return=True),
    _one_draw("one draw: 80 steps", "fewer steps", steps=80),
    _one_draw("one draw: smoothness .03", "a third of the penalty", smoothness=0.03),
    _one_draw("one draw: smoothness .3", "three times the penalty", smoothness=0.3),
    _one_draw("one draw: no likes above hates", "the three objectives alone", likes_hates_weight=0.0),
    _one_draw("one draw: likes above hates .3", "less of this objective", likes_hates_weight=0.3),
    _one_draw("one draw: likes above hates .5", "more of this objective", likes_hates_weight=0.5),
    _one_draw("one draw: likes above hates 1", "more of this objective", likes_hates_weight=1.0),
    Method("random", "a random order", order="random", decisive=True),
    Method("longest", "the longest first", order="longest", decisive=True),
    Method("video's watch time", "mean over the days before", order="video_watch_time", decisive=True),
    Method("video's feedback", "rate over the days before", order="video_feedback", decisive=True),
    *(
        Method(
            f"best rule: {pick}",
            f"picked by the composite on {windows}",
            pick=pick,
            decisive=True,
            central=pick in ("past", "hindsight"),
        )
        for pick, windows in _PICKS.items()
    ),
    *RULES,
    *(
        _maker(m.name, m.description, paper=m.baseline, network=m.name == "wt")
        for m in heuristic_label_makers()
    ),
    _maker("dvr", f"WTG; {_DVR}", "wtg", paper=True, duration_blind=True),
    _maker("wt+ef", "the sum of both scores", "wt", "ef", paper=True),
    _maker("d2q+ef", "the sum of both scores", "d2q", "ef", paper=True),
    _maker("dvr+ef", f"the sum of both scores; {_DVR}", "wtg", "ef", paper=True, duration_blind=True),
    _maker("dml", "seven debiased labels, the sum of their scores", *_DML),
    _maker(SURROGATE, "expected net feedback and return the next day, given watch time and duration"),
)
"""Every row, in the order of the report."""

_BASES: Final = ("wt", "dml_lv", "pcr", "sasrec_ratio", "d2q")
_WEIGHTS: Final = tuple((e, d) for e in (0.0, 0.2, 1.0, 3.0) for d in (0.0, 0.05, 0.15, 0.3, 0.6, 1.0))
GRID: Final = tuple(
    Method(f"{base} + {e:g}e + {d:g}d", "", parts={base: 1.0, "ef": e, DURATION: d}, standardised=True)
    for base in _BASES
    for e, d in _WEIGHTS
)
"""Rules that the best one is picked from, beside those of `METHODS`."""


def is_rule(method: Method) -> bool:
    """Return whether a method is a rule by hand, which may be picked."""
    return bool(method.parts) and method.learned is None and not method.duration_blind


def part_names(methods: tuple[Method, ...]) -> tuple[str, ...]:
    """Return the labels that methods are made of, learned ones last."""
    learned = {method.name for method in methods if method.learned is not None}
    names = dict.fromkeys(name for method in methods for name in method.parts)
    return (*(n for n in names if n not in learned), *(n for n in names if n in learned))
