"""The rows of the objectives comparison: how the gradients of the objectives become one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torchjd.aggregation import (
    CAGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    MGDAWeighting,
    PCGradWeighting,
)

from training.balance import Balancer, GradCraft
from training.rankers import ObjectivesConfig

CAGRAD_C: Final = 0.4
"""Of CAGrad, as in its paper's experiments on multi-task data sets."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    name: str
    says: str
    """What it is, for readers."""
    balancer: Callable[[ObjectivesConfig], Balancer] | None = None
    """Makes a fresh one for each fit (some remember the steps before); `None` adds the losses up."""
    alone: bool = False
    """Whether every objective has a ranker of its own instead."""
    ablation: bool = False
    """Whether it is GradCraft with a knob turned."""


METHODS: Final = (
    Method(
        "gradcraft",
        "lengths brought nearer, then all conflicts resolved at once",
        lambda c: GradCraft(c.tau, c.epsilon),
    ),
    Method("single", "a ranker for each objective", alone=True),
    Method("equal", "the sum of the losses"),
    Method("pcgrad", "each conflict projected away, one after the other", lambda _: PCGradWeighting()),
    Method("mgda", "the shortest vector in the gradients' convex hull", lambda _: MGDAWeighting()),
    Method(
        "cagrad",
        "near the mean, where the objective that gains least gains most",
        lambda _: CAGradWeighting(CAGRAD_C),
    ),
    Method("imtl", "equal projections on every gradient (IMTL-G)", lambda _: IMTLGWeighting()),
    Method("gradvac", "cosines kept up to their running mean", lambda _: GradVacWeighting()),
    Method("gradcraft τ=0", "conflicts alone", lambda c: GradCraft(0.0, c.epsilon), ablation=True),
    Method(
        "gradcraft τ=1",
        "all lengths equal, then conflicts",
        lambda c: GradCraft(1.0, c.epsilon),
        ablation=True,
    ),
)
"""Every row, in the order of the report. TorchJD has all but GradCraft."""
