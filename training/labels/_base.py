"""What a label maker is, and the columns of feedback it may read."""

# Shape suffixes: N rows, F feedback columns, G group columns.

from __future__ import annotations

from typing import ClassVar, Final, Self

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import F32
from models.features import FEEDBACK_COLUMNS
from models.schema import EXPLICIT
from training.data import Interactions

_WATCH_TIME: Final = FEEDBACK_COLUMNS.index("watch_time_s")
_DURATION: Final = FEEDBACK_COLUMNS.index("duration_s")
_HATE: Final = FEEDBACK_COLUMNS.index("hate")
_EXPLICIT: Final = [FEEDBACK_COLUMNS.index(name) for name in EXPLICIT]


class LabelMaker(nn.Module):
    """A fitted function from the feedback on an exposure to a training target in [0, 1].

    Tables are buffers: fitted on train, frozen with the bundle, exported into `labeler.onnx` as they are. A
    label depends on its row alone.
    """

    name: str
    """The output's name in the graph, and the label's in `POST /label`."""
    description: str
    """The label in a phrase, for tables."""
    group_columns: tuple[str, ...] = ()
    """Which of `GROUP_COLUMNS` the label depends on."""
    baseline: ClassVar[bool] = False
    """Whether LabelCraft's paper compares itself with this label."""

    def fit(self, train: Interactions) -> Self:
        """Read tables off training rows; label makers without tables return at once."""
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        """Return the `[N]` labels in [0, 1]; N may be 0.

        Args:
            feedback_NF: `[N, 8]` float32, columns of `FEEDBACK_COLUMNS` in raw units.
            group_ids_NG: `[N, 2]` int64, columns of `GROUP_COLUMNS`; read by those with `group_columns`.
        """
        raise TypeError(f"{type(self).__name__} makes no labels.")


def labels_of(maker: LabelMaker, log: Interactions, chunk: int = 65_536) -> F32:
    """Return the `[N]` labels of every row of a log, without gradients and a chunk of rows at a time."""
    feedback, groups = torch.from_numpy(log.feedback), torch.from_numpy(log.groups)
    with torch.no_grad():
        starts = range(0, len(log), chunk)
        parts = [maker(feedback[i : i + chunk], groups[i : i + chunk]).numpy() for i in starts]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def watch_time_s(feedback: Tensor) -> Tensor:
    """Return `[...]` seconds watched from `[..., 8]` feedback."""
    return feedback[..., _WATCH_TIME]


def duration_s(feedback: Tensor) -> Tensor:
    """Return `[...]` durations in seconds from `[..., 8]` feedback."""
    return feedback[..., _DURATION]


def hated(feedback: Tensor) -> Tensor:
    """Return `[...]` 1.0 where the user asked for less of this, from `[..., 8]` feedback."""
    return feedback[..., _HATE]


def explicit(feedback: Tensor) -> Tensor:
    """Return `[...]` δ(Σ y_e) from `[..., 8]` feedback: 1.0 where there is any explicit feedback."""
    # dim() - 1, not -1: onnxruntime 1.31 reduces no rows wrongly along a negative axis.
    return (feedback[..., _EXPLICIT].sum(feedback.dim() - 1) > 0).to(feedback.dtype)
