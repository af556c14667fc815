"""What a label maker is, and the columns of feedback it may read."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from typing import Final, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypeIs

from models.arrays import F32
from models.features import FEEDBACK_COLUMNS
from models.schema import EXPLICIT
from training.data import Interactions

_WATCH_TIME: Final = FEEDBACK_COLUMNS.index("watch_time_s")
_DURATION: Final = FEEDBACK_COLUMNS.index("duration_s")
_EXPLICIT: Final = [FEEDBACK_COLUMNS.index(name) for name in EXPLICIT]


class LabelMaker(Protocol):
    """Feedback on an exposure -> the target in [0, 1] that a recommender is trained on.

    Implementations are `torch.nn.Module`s whose tables are buffers: fitted on train, frozen with the
    bundle, exported into `labeler.onnx` as they are. A label depends on its row alone.
    """

    @property
    def name(self) -> str:
        """The output's name in the graph, and the label's in `POST /label`."""
        ...

    def fit(self, train: Interactions) -> Self:
        """Read tables off training rows; returns self. Makers without tables return at once."""
        ...

    def forward(self, feedback_NF: Tensor) -> Tensor:
        """`[N, 8]` float32, columns of `FEEDBACK_COLUMNS` in raw units -> `[N]` in [0, 1]. N may be 0."""
        ...

    def __call__(self, feedback_NF: Tensor) -> Tensor:
        """The same as `forward`."""
        ...


class GroupedLabelMaker(Protocol):
    """A label maker whose label depends on the crowds of its exposure, too: its tag, its user's group."""

    @property
    def name(self) -> str:
        """As `LabelMaker.name`."""
        ...

    def fit(self, train: Interactions) -> Self:
        """As `LabelMaker.fit`."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Which of `GROUP_COLUMNS` it reads."""
        ...

    def forward(self, feedback_NF: Tensor, groups_NG: Tensor) -> Tensor:
        """`[N, 8]` as above and `[N, 2]` int64, columns of `GROUP_COLUMNS` -> `[N]` in [0, 1]."""
        ...

    def __call__(self, feedback_NF: Tensor, groups_NG: Tensor) -> Tensor:
        """The same as `forward`."""
        ...


AnyLabelMaker = LabelMaker | GroupedLabelMaker


def is_grouped(maker: AnyLabelMaker) -> TypeIs[GroupedLabelMaker]:
    """Whether it asks for the crowds: whether its `forward` takes them."""
    return hasattr(maker, "reads")


def label_with(maker: AnyLabelMaker, feedback_NF: Tensor, groups_NG: Tensor | None) -> Tensor:
    """`[N]` labels, whichever of the two it is.

    Raises:
        ValueError: it compares within crowds and `groups_NG` was not given.
    """
    if not is_grouped(maker):
        return maker(feedback_NF)
    if groups_NG is None:
        raise ValueError(f"{maker.name} compares within crowds; give `groups_NG`.")
    return maker(feedback_NF, groups_NG)


def labels_of(maker: AnyLabelMaker, log: Interactions, chunk: int = 65_536) -> F32:
    """`[N]` the labels of every row of a log, without gradients and a chunk of rows at a time."""
    feedback, groups = torch.from_numpy(log.feedback), torch.from_numpy(log.groups)
    parts = [np.zeros(0, np.float32)]
    with torch.no_grad():
        for start in range(0, len(log), chunk):
            rows = slice(start, start + chunk)
            parts.append(label_with(maker, feedback[rows], groups[rows]).numpy())
    return np.concatenate(parts)


def watch_time_s(feedback: Tensor) -> Tensor:
    """`[..., 8]` -> `[...]` seconds watched."""
    return feedback[..., _WATCH_TIME]


def duration_s(feedback: Tensor) -> Tensor:
    """`[..., 8]` -> `[...]` seconds long."""
    return feedback[..., _DURATION]


def explicit(feedback: Tensor) -> Tensor:
    """`[..., 8]` -> `[...]` 1.0 where there is any explicit feedback, δ(Σ y_e)."""
    # dim() - 1, not -1: onnxruntime 1.31 reduces no rows wrongly along a negative axis.
    return (feedback[..., _EXPLICIT].sum(feedback.dim() - 1) > 0).to(feedback.dtype)
