"""What may happen at an exposure besides seconds: one yes or no for each objective."""

# Shape suffixes: N exposures, T outcomes.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from models.arrays import F32, Bools
from models.features import FEEDBACK_COLUMNS, signal_columns
from models.metrics import SKIP_S, long_view
from models.signals import NO_SIGNALS, Signals

Side = Literal["positive", "negative"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One yes or no of an exposure, and an objective of the ranker by the same name."""

    name: str
    happened: Callable[[F32], Bools]
    """`[N, 8 + S]` feedback, columns as `FEEDBACK_COLUMNS`, then own signals -> `[N]`."""
    side: Side = "positive"
    """Negative ones count against a candidate."""


def _flag(*names: str) -> Callable[[F32], Bools]:
    return _any_of(*(FEEDBACK_COLUMNS.index(name) for name in names))


def _any_of(*columns: int) -> Callable[[F32], Bools]:
    return lambda feedback_N8: np.asarray(feedback_N8[:, columns].max(axis=1) > 0)


EFFECTIVE_S: Final = 7.0
"""Above this duration a view is effective without being complete."""

OUTCOMES: Final = (
    Outcome("effective_view", lambda f: (f[:, 0] > EFFECTIVE_S) | (f[:, 0] >= f[:, 1])),
    Outcome("long_view", lambda f: long_view(f[:, 0], f[:, 1])),
    Outcome("complete_view", lambda f: f[:, 0] >= f[:, 1]),
    Outcome("like", _flag("like")),
    Outcome("follow", _flag("follow")),
    Outcome("comment_or_forward", _flag("comment", "forward")),
    Outcome("profile_enter", _flag("profile_enter")),
    Outcome("skip", lambda f: f[:, 0] < np.minimum(f[:, 1], SKIP_S), "negative"),
    Outcome("hate", _flag("hate"), "negative"),
)
"""Every yes or no that is predicted. Views are KuaiRand's own columns (valid play, long view, complete play)
as its documentation defines them: of no fitted threshold, so that they mean the same on every log. GradCraft
took effective and long views at quantiles of the training rows; `training.labels` has those as labels."""


def outcomes_with(signals: Signals) -> tuple[Outcome, ...]:
    """Return `OUTCOMES`, and one for each own signal that is a yes or no."""
    sides: dict[str, Side] = dict.fromkeys(signals.positive, "positive")
    sides |= dict.fromkeys(signals.negative, "negative")
    columns = dict(zip(sides, signal_columns(signals, signals.flags), strict=True))
    return (*OUTCOMES, *(Outcome(name, _any_of(columns[name]), side) for name, side in sides.items()))


def outcomes(feedback_NC: F32, signals: Signals = NO_SIGNALS) -> F32:
    """`[N, T]` 1.0 where it happened, columns as `outcomes_with`.

    Args:
        feedback_NC: columns as `FEEDBACK_COLUMNS`: seconds watched, duration, flags; then the signals.
        signals: own ones.
    """
    happened = [outcome.happened(feedback_NC) for outcome in outcomes_with(signals)]
    return np.stack(happened, axis=1).astype(np.float32)
