"""How good predicted seconds and a ranking are: pure numpy functions, one definition for both sides.

An undefined figure (no rows, no pair that differs, no user with enough rows) is `None`, never NaN, so that
it reads as JSON `null` and cannot pass a comparison by accident.
"""

from models.metrics._at_k import PerUser, ds_at_k, first_k, neg_at_k, nwtg_at_k
from models.metrics._auc import auc, gauc, xauc, xgauc
from models.metrics._calibration import ece
from models.metrics._classes import Confusion
from models.metrics._distribution import DURATIONS_S, crps, distribution_report, pinball, row_crps
from models.metrics._labels import COMPLETE_RATIO, LONG_VIEW_S, SKIP_S, STATES, long_view, watch_states
from models.metrics._pairs import Pairs, RowPairs, Ties, count_pairs, row_pairs
from models.metrics._pointwise import mae_s, mape, rmse_s
from models.metrics._report import CUTS, Figures, report

__all__ = [
    "COMPLETE_RATIO",
    "CUTS",
    "DURATIONS_S",
    "LONG_VIEW_S",
    "SKIP_S",
    "STATES",
    "Confusion",
    "Figures",
    "Pairs",
    "PerUser",
    "RowPairs",
    "Ties",
    "auc",
    "count_pairs",
    "crps",
    "distribution_report",
    "ds_at_k",
    "ece",
    "first_k",
    "gauc",
    "long_view",
    "mae_s",
    "mape",
    "neg_at_k",
    "nwtg_at_k",
    "pinball",
    "report",
    "rmse_s",
    "row_crps",
    "row_pairs",
    "watch_states",
    "xauc",
    "xgauc",
]
