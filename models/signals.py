"""A platform's own feedback signals: what it knows of an exposure besides watch time and the six flags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from models.schema import FeedbackEvent

MAX_SIGNALS: Final = 32
MAX_AMOUNT: Final = 1e9
"""Of a number. Above it, an id or a time was sent in its place."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_OBJECTIVES: Final = (
    "watch_time",
    "expected_watch_time",
    "interest",
    "effective_view",
    "long_view",
    "complete_view",
    "comment_or_forward",
    "skip",
)
"""Names of objectives that every log may have: no signal is named so."""
_RESERVED: Final = frozenset((*FeedbackEvent.__struct_fields__, *_OBJECTIVES))


class SignalFault(NamedTuple):
    """A signal of an event that breaks a rule, and which."""

    name: str
    detail: str


class Signals(BaseModel):
    """Names of the signals that a log declares, and by it a bundle.

    Each is a column of feedback after `models.features.FEEDBACK_COLUMNS`, in the order of `names`. What an
    event does not say of a signal is no, or 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    positive: tuple[str, ...] = ()
    """Yes or no, and a yes asks for more of the same, as a like does."""
    negative: tuple[str, ...] = ()
    """Yes or no, and a yes asks for less, as a hate does."""
    numbers: tuple[str, ...] = ()
    """Amounts from 0 to `MAX_AMOUNT`."""

    @model_validator(mode="after")
    def _names_are_free(self) -> Signals:
        names = self.names
        if len(names) > MAX_SIGNALS:
            raise ValueError(f"at most {MAX_SIGNALS} signals, found {len(names)}")
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a signal: a letter, then letters, digits and `_`")
            if name in _RESERVED:
                raise ValueError(f"{name!r} is the name of something else; give the signal another")
            if names.count(name) > 1:
                raise ValueError(f"the signal {name!r} is declared twice")
        return self

    @property
    def flags(self) -> tuple[str, ...]:
        """Those that are a yes or no."""
        return (*self.positive, *self.negative)

    @property
    def names(self) -> tuple[str, ...]:
        """All, in the order of their columns."""
        return (*self.flags, *self.numbers)

    def fault(self, values: Mapping[str, bool | float]) -> SignalFault | None:
        """Return the first signal of an event that breaks a rule; `None` if all is well."""
        for name, value in values.items():
            if name in self.flags:
                if not isinstance(value, bool):
                    return SignalFault(name, f"`signals.{name}` must be true or false, found {value:g}.")
            elif name not in self.numbers:
                known = f"this bundle knows {', '.join(self.names)}" if self.names else "this bundle has none"
                return SignalFault(name, f"There is no signal {name!r}; {known}.")
            elif isinstance(value, bool) or not 0 <= value <= MAX_AMOUNT:  # so written, NaN is refused too
                rule = f"must be a number from 0 to {MAX_AMOUNT:.0f}"
                return SignalFault(name, f"`signals.{name}` {rule}, found {value}.")
        return None


NO_SIGNALS: Final = Signals()


def with_signals(
    feedback: npt.NDArray[np.float32],
    values: Sequence[Mapping[str, bool | float] | None],
    signals: Signals,
) -> npt.NDArray[np.float32]:
    """Return `[N, 8]` feedback with the columns of the signals, `[N, 8 + S]`.

    Args:
        feedback: of N exposures.
        values: what each says of signals; may be empty where none says anything.
        signals: those that the bundle declares.
    """
    out = np.zeros((len(feedback), feedback.shape[1] + len(signals.names)), np.float32)
    out[:, : feedback.shape[1]] = feedback
    for row, known in enumerate(values):
        if known:
            out[row, feedback.shape[1] :] = [known.get(name, 0.0) for name in signals.names]
    return out
