"""The rows of `compare language`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from training.experiments.config import MethodSpec


@dataclass(frozen=True)
class Method(MethodSpec):
    """A row of the table."""

    kind: Literal["language", "sasrec", "popularity"] = "language"
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the config of the language model."""


METHODS: Final = (
    Method("cft", "counterfactual fine-tuning: with the counterfactual term and the token weights"),
    Method(
        "plain",
        "the same model and data, plain cross entropy",
        changes={"effect_weight": 0.0, "last_weight": 1.0},
    ),
    Method("sasrec", "the same transformer over whole videos, one token each", kind="sasrec"),
    Method(
        "popularity",
        "most long views of the last days before the early-stop day",
        kind="popularity",
        constant=True,
    ),
    Method(
        "no counterfactual term",
        "with the token weights alone",
        ablation=True,
        changes={"effect_weight": 0.0},
    ),
    Method(
        "no token weights", "with the counterfactual term alone", ablation=True, changes={"last_weight": 1.0}
    ),
)
