"""A signal of one's own as the label."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from models.errors import BadInput
from models.features import signal_columns
from models.signals import Signals
from training.data import Interactions
from training.labels._base import LabelMaker


class SignalLabel(LabelMaker):
    """`y = 1` where the signal was given, such as a favorite.

    Args:
        name: of the signal.
        signals: all that the log declares.
    """

    def __init__(self, name: str, signals: Signals) -> None:
        super().__init__()
        self.name = f"signal_{name}"
        self.description = f"{name}, a signal of the log"
        self._column = signal_columns(signals, [name])[0]

    def fit(self, train: Interactions) -> Self:
        """There is nothing to fit.

        Raises:
            BadInput: no exposure has the signal, so every label would be 0.
        """
        if not train.feedback[:, self._column].any():
            raise BadInput(f"no exposure has {self.name.removeprefix('signal_')}: the label is 0 everywhere.")
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return feedback_NF[:, self._column].clamp(0.0, 1.0)
