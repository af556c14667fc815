"""The rows of the watch-time comparison: which head, or which trees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from training.lda import LDA, LDAConfig
from training.watch_time import CREAD, CWM, OR, TPM, VR, WLR, D2QSeconds, Head, VRConfig

Trees = Literal["l1", "log_l2"]
"""What boosted trees are fitted on: seconds with absolute error, or log(1 + seconds) with squared error."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    name: str
    says: str
    """What it is, for readers."""
    head: Callable[[int, LDAConfig], Head] | None = None
    """Makes it for states of this width; `None` for rows without the encoder."""
    trees: Trees | None = None
    """Boosted trees on what the encoder computes without parameters."""
    lda: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the comparison's `LDAConfig`."""
    paper: bool = False
    """Whether it is one of the six that the paper compares LDA with."""
    ablation: bool = False
    """Whether it is LDA with something taken away."""

    @property
    def constant(self) -> bool:
        """Whether it says the same of every row, whatever the seed."""
        return self.head is None and self.trees is None


def _head(name: str, says: str, make: Callable[[int], Head], *, paper: bool = True) -> Method:
    return Method(name, says, lambda width, _: make(width), paper=paper)


def _lda(name: str, says: str, **changes: Any) -> Method:
    return Method(name, says, LDA, lda=changes, ablation=bool(changes))


METHODS: Final = (
    _lda("lda", "label distributions as anchors"),
    _head("vr", "value regression, squared error", VR),
    _head("wlr", "weighted logistic regression: the odds are the seconds", WLR),
    _head("d2q", "quantile within the duration group, restored to seconds", D2QSeconds),
    _head("or", "ordinal regression over equal-frequency thresholds", OR),
    _head("cwm", "counterfactual watch time, whole plays censored", CWM),
    _head("tpm", "a tree of questions whether the watch time is above its interval's middle", TPM),
    _head("cread", "ordinal regression over error-adaptive thresholds", CREAD, paper=False),
    Method(
        "vr ranked",
        "value regression on LDA's loss, rank included: what the loss does without anchors",
        lambda width, lda: VR(
            width, VRConfig(loss=lda.loss, delta=lda.delta, rank=lda.rank, rank_error=lda.rank_error)
        ),
    ),
    Method("lightgbm l1", "boosted trees, absolute error", trees="l1"),
    Method("lightgbm log", "boosted trees, squared error of log(1 + seconds)", trees="log_l2"),
    Method("median", "the median of the rows before, for everybody"),
    _lda("lda - rank", "without the rank in the loss", rank=0.0),
    _lda("lda - alignment", "no transport: the anchors' weights are free", alignment=0.0),
    _lda("lda - anchors", "random anchors for random ratios", random_anchors=True),
    _lda("lda - label cost", "the transport never sees the label, as on the poster", label_cost=0.0),
    _lda("lda median", "the median of the distribution over anchors instead of g", point="median"),
)
"""Every row, in the order of the report."""
