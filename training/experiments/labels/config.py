"""Everything that decides the figures of a comparison of labels besides the log."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from training.config import Config
from training.encoders import SASRecConfig
from training.labelcraft import LabelCraftConfig
from training.labelcraft.closed_form import ClosedFormConfig
from training.recommender import SequencesConfig


class TreesConfig(Config):
    """Hyperparameters of the boosted trees that labels are compared with."""

    rounds: PositiveInt = 80
    learning_rate: PositiveFloat = 0.08
    leaves: PositiveInt = 31
    rows_per_leaf: PositiveInt = 100
    """At least."""


class LabelsConfig(Config):
    """Hyperparameters of `compare labels`."""

    seed: NonNegativeInt = 0
    """Of every draw."""
    windows: Annotated[int, Field(ge=2)] = 5
    """Of the rolling origin, the last ones of the log. Labels are learned on the windows before the one that
    they are evaluated on, so the first is learned from alone."""
    window_days: PositiveInt = 2
    """Days of a window; recommenders are fitted on all days before it."""
    k: Annotated[int, Field(ge=2)] = 5
    """Size of the slate; only users with more candidates in a window count."""
    seeds: Annotated[int, Field(ge=2)] = 10
    """Recommenders a label, each fitted to users drawn with replacement."""
    tree_seeds: Annotated[int, Field(ge=2)] = 10
    """The same of boosted trees, for the central methods; the others that claims rest on have four, and all
    others two."""
    network_seeds: NonNegativeInt = 2
    """The same of SASRec4SV, for the central methods and watch time; the others have none. 0 leaves it out.
    Each costs as much as half of all else: with two the full design takes under an hour on two cores."""
    resamples: PositiveInt = 10_000
    """Of the bootstrap over users and recommenders."""
    same_label_trials: PositiveInt = 240
    """Comparisons of a label with itself, which should find nothing."""
    closed_form: ClosedFormConfig = ClosedFormConfig()
    """How labels are learned."""
    one_step: LabelCraftConfig = LabelCraftConfig(epochs=15, k=5, shared_hold_out=True)
    """How LabelCraft's network learns them. The window before the evaluated one is held out, both to learn on
    and to stop by, as the authors' validation split is."""
    trees: TreesConfig = TreesConfig()
    network: SequencesConfig = SequencesConfig(sasrec=SASRecConfig(head="ratio"), epochs=6)
    """Six passes, so that the full design takes an hour on two cores and not three."""
