"""Hyperparameters of the served encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from training.config import Config


class FeedbackEncoderConfig(Config):
    """Hyperparameters of `FeedbackEncoder`. No source gives them: chosen on the early-stop split.

    `tokens`, `interests` and `gate` are off: on the early-stop day of KuaiRand-Pure (two seeds, three epochs)
    neither one of them nor all at once left the MAE of watch time, 20.0 s, lower by more than 0.05 s.
    Sequences there are short, and the statistics of the user, and of the candidate's author and tag, already
    carry what was skipped. Logs with long sequences are where to try them.
    """

    width: PositiveInt = 96
    """Width D of the state that the heads read."""

    token: PositiveInt = 32
    """Width E of a token of history or sequence, and of a candidate's query."""

    heads: PositiveInt = 4
    """Attention heads; divides `token`."""

    video_embedding: PositiveInt = 8
    """Width of a video's embedding; authors and tags take the same."""

    hidden: PositiveInt = 192
    """Width of the layer before the state."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """On the layer before the state, while fitting."""

    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of ids replaced by the unknown row while fitting, so that the unknown row is trained."""

    profile_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of users whose numbers are unknown while fitting, so that a user without any is trained; and of
    candidates whose own features are."""

    history: bool = True
    """Whether a candidate also attends over what was shown before the sequence, flags alone."""

    feedback: bool = True
    """Off: the feedback-blind encoder, which knows what was shown and when, and not what was done."""

    tokens: Literal["plain", "full"] = "plain"
    """`full`: a step also carries its duration group, a bucket of its watch ratio, whether it was an
    effective view, and how long after the step before it came; a candidate its duration group."""

    duration_groups: PositiveInt = 10
    """Equal-frequency groups of `full` tokens, fitted on train."""

    interests: Literal["one", "apart", "both"] = "one"
    """What a candidate attends over: all history; what was liked and what was skipped, apart from each
    other (steps between the two are in neither); or all, the liked and the skipped."""

    gate: bool = False
    """Whether a skip counts by its context, see `SkipGate`; off: every skip counts in full."""
