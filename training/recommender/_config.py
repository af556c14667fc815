"""Hyperparameters of the recommender that label makers are evaluated with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from training.config import Config
from training.encoders import DinConfig
from training.labelcraft import InnerLoss


class RecommenderConfig(Config):
    """Hyperparameters of `fit_recommender`; sizes and loss of LabelCraft's harness, the optimiser is ours."""

    din: DinConfig = DinConfig()
    """Sizes."""

    duration_groups: PositiveInt = 60
    """Equal-frequency groups that DIN knows durations by."""

    duration_feature: bool = True
    """Whether it knows them at all; DVR's model does not."""

    history: PositiveInt = 50
    """Most steps of a row's history."""

    epochs: PositiveInt = 8
    """At most so many passes over the training rows."""

    patience: PositiveInt = 2
    """Epochs without a better early-stop figure before stopping."""

    stop_by: Literal["nwtg", "own"] = "nwtg"
    """The early-stop figure: user-weighted NWTG@k (LabelCraft's harness), or how well a recommender predicts
    its own labels, its loss on the early-stop rows. The first is the paper's and favours labels made of watch
    time: a recommender of likes is stopped before it has learned them."""

    k: PositiveInt = 10
    """Size of the slate that early stopping looks at."""

    batch_size: PositiveInt = 1024
    """Rows of a step."""

    learning_rate: PositiveFloat = 1e-3
    """Adam's. The authors' plain SGD needs hundreds of epochs to come as far as this does in four."""

    weight_decay: Annotated[float, Field(ge=0)] = 4.0
    """AdamW's, on everything. Without it the tables of ids learn the training rows by heart: on the
    early-stop days of KuaiRand-Pure NWTG@10 of `wt` rose from .571 to .581, as it does with 1."""

    loss: InnerLoss = "mse"
    """Squared error of the probability (LabelCraft), or cross entropy of the logit with a soft label."""

    adversary: Annotated[float, Field(ge=0)] = 0.0
    """λ_adv: weight of DVR's adversary, which takes the duration out of the score; 0 for none."""

    combine: Literal["sum", "product", "weighted"] = "sum"
    """How the scores of several heads become one: no source says. Their mean, their geometric mean, or their
    mean by `head_weights`."""

    head_weights: tuple[PositiveFloat, ...] = ()
    """One weight a head, for `weighted`."""
