"""Hyperparameters of LabelCraft."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from training.config import Config
from training.encoders import DinConfig
from training.labelcraft._balance import BalanceMode
from training.labelcraft._gradients import InnerLoss


class LabelCraftConfig(Config):
    """Hyperparameters of `fit_labelcraft`; defaults of baiyimeng/LabelCraft@dce15ee unless noted."""

    hidden: PositiveInt = 256
    """Width of the label maker's two hidden layers."""

    inputs: Literal["scaled", "log", "raw"] = "scaled"
    """How it reads seconds: by `scale`, as the objectives do; as `log(1 + v) / log(1 + v_max)`; or as they
    are, as the authors do, which saturates the sigmoid. `scale` gives nine tenths of the exposures a fifth
    of the range, so that a network can hardly separate 1 s from 10 s; `log` spreads them. Ours but for
    `raw`."""

    bias: bool = True
    """Biases in the label maker. The authors have none, which pins g(0, 0, 0) to 0.5."""

    recommender: DinConfig = DinConfig()
    """Sizes of the DIN that the inner loop fits."""

    duration_groups: PositiveInt = 60
    """Equal-frequency groups that DIN knows durations by. The authors' tables have 63 and 92 rows."""

    history: PositiveInt = 100
    """Most steps of a row's history."""

    epochs: PositiveInt = 1000
    """At most so many passes over the training rows."""

    batch_size: PositiveInt = 4096
    """Rows of an inner step."""

    patience: PositiveInt = 5
    """Epochs without a better early-stop NWTG@k before stopping."""

    min_gain: Annotated[float, Field(ge=0)] = 1e-4
    """Least gain that counts as better."""

    max_seconds: PositiveFloat | None = None
    """Stop after the epoch in which this much time has passed; a fit that used it is not repeatable."""

    loss: InnerLoss = "mse"
    """The recommender's: squared error of its probability, or cross entropy of its logit."""

    without_input: Literal["watch_time", "duration", "explicit"] | None = None
    """What the label maker does not see (it reads 0 there): the paper's ablation."""

    scaling: bool = True
    """`scale` with its knee; False divides by the maximum instead: the paper's ablation."""

    inner_optimiser: Literal["sgd", "adam"] = "sgd"
    """The recommender's. `adam` divides a gradient by the root of the second moment of those before it, so
    that the step stays linear in the labels and the outer gradient exact; without momentum. Ours: plain SGD
    learns rows of the tables that few exposures meet too slowly."""

    warmup_epochs: NonNegativeInt = 0
    """First epochs in which the labels stay: the gradient through an untrained recommender is noise."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of the recommender, decoupled and in units of `lr_recommender`. The authors have none."""

    lr_recommender: PositiveFloat = 0.1
    """η1 of the inner step."""

    lr_embeddings: PositiveFloat | None = None
    """η1 of the recommender's embeddings; `None`: the same. A row of a table meets few rows of a batch, so
    its gradient is smaller by their share. Ours."""

    lr_labels: PositiveFloat = 1e-4
    """η2 of the outer step, ascent."""

    outer_optimiser: Literal["sgd", "adam"] = "sgd"
    """How the label maker ascends. Adam is ours: the size of its step does not depend on η1 and the batch."""

    warm_start: bool = True
    """Start the label maker at a row's own share of the objectives, see `warm_start`; otherwise at random
    weights, as the authors do. Ours."""

    hold_level: bool = True
    """Keep the mean label where it starts. A slate does not change when all scores rise together, yet the
    exact gradient mostly points there (what train shows often, the hold-out shows often), and the labels end
    at one constant. The gradient loses its part along the mean label, and what a finite step still moves is
    taken back by the output's bias. Ours; the authors let it drift."""

    user_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """ρ: share of the hold-out users that an outer step sees."""

    k: PositiveInt = 10
    """Size of the slate that the objectives and early stopping look at."""

    temperature: PositiveFloat = 0.05
    """Of the soft top-k, as a share of the interquartile range of a user's scores. Ours, see `epsilon`."""

    epsilon: PositiveFloat | None = None
    """A fixed ε instead, as the authors count it: T = ε k²/2. They have 1e-4."""

    tau: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Sharpness of dynamic balancing; 0 weighs the objectives equally."""

    balance: BalanceMode = "scaled"
    """See `objective_weights` and, of `gradcraft`, `gradient_weights`."""

    disable: str | None = None
    """Name of an objective to leave out: the paper's ablation."""

    freeze: bool = False
    """Leave the label maker as it is: the ablation that shows what the outer level does."""

    shared_hold_out: bool = False
    """Let meta and early-stop rows both do both, as the authors' code does with its validation split."""
