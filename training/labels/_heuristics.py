"""The hand-made label makers, in the order in which bundles serve them."""

from __future__ import annotations

from models.errors import BadInput
from models.signals import NO_SIGNALS, Signals
from training.data import Interactions
from training.labels._base import LabelMaker
from training.labels._d2co import D2Co
from training.labels._d2q import D2Q
from training.labels._dml_views import VIEWS, ProgressView, ProgressViewByDuration, ProgressViewByGroup
from training.labels._dml_wpr import WPR
from training.labels._ef import EF
from training.labels._pc import PC
from training.labels._pcr import PCR
from training.labels._rad import RAD
from training.labels._sasrec_binary import SASRecBinary
from training.labels._sasrec_ratio import SASRecRatio
from training.labels._signal import SignalLabel
from training.labels._wt import WT
from training.labels._wtg import WTG
from training.labels._wtg_relevant import WTGRelevant


def heuristic_label_makers(signals: Signals = NO_SIGNALS) -> list[LabelMaker]:
    """Return every label maker without learned parameters, unfitted.

    Args:
        signals: own signals; each yes or no that asks for more is a label.
    """
    return [
        WT(),
        EF(),
        PC(),
        PCR(),
        D2Q(),
        WTG(),
        D2Co(),
        SASRecBinary(),
        SASRecRatio(),
        WTGRelevant(),
        WPR(),
        WPR(debias=True),
        *(ProgressView(view) for view in VIEWS),
        *(ProgressViewByDuration(view) for view in VIEWS),
        *(ProgressViewByGroup(view, "user_group") for view in VIEWS),
        *(ProgressViewByGroup(view, "tag") for view in VIEWS),
        RAD(),
        *(SignalLabel(name, signals) for name in signals.positive),
    ]


def fit_heuristics(known: Interactions) -> tuple[list[LabelMaker], dict[str, str]]:
    """Fit every heuristic label maker that a log allows.

    Returns:
        The fitted ones, and by name why the others refused the log.
    """
    fitted: list[LabelMaker] = []
    refused: dict[str, str] = {}
    for maker in heuristic_label_makers(known.signals):
        try:
            fitted.append(maker.fit(known))
        except BadInput as e:
            refused[maker.name] = str(e)
    return fitted, refused
