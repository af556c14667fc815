"""What a label maker is, and the columns of feedback it may read."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from typing import Final, Protocol, Self

from torch import Tensor

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
