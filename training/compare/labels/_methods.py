"""The rows of the comparison: which labels a recommender is fitted on, and how it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    name: str
    labels: tuple[str, ...]
    """The label makers whose labels it is fitted on, by their names in `POST /label`: a head for each."""
    says: str
    """What it is, for readers."""
    recommender: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the others' `RecommenderConfig`."""
    labelcraft: Mapping[str, Any] = field(default_factory=dict)
    """What differs from LabelCraft's config."""
    ablation: bool = False
    """Whether it is LabelCraft with something taken away."""
    paper: bool = False
    """Whether it is one of the nine that the paper compares LabelCraft with."""

    @property
    def learned(self) -> bool:
        """Whether its labels are learned, not fixed."""
        return self.labels == ("labelcraft",)


def _rule(name: str, says: str, *, paper: bool = False) -> Method:
    return Method(name, (name,), says, paper=paper)


def _without(what: str, says: str, **changes: Any) -> Method:
    return Method(f"labelcraft {what}", ("labelcraft",), says, labelcraft=changes, ablation=True)


_DVR: Final = {"adversary": 0.1, "duration_feature": False}
"""λ_adv of the DVR authors' command line; the model is not told the duration."""

METHODS: Final = (
    Method("labelcraft", ("labelcraft",), "labels learned on the platform's objectives"),
    _rule("wt", "watch time, scaled", paper=True),
    _rule("ef", "any explicit feedback", paper=True),
    Method("ef own", ("ef",), "the same, stopped early by its own loss, not by NWTG", {"stop_by": "own"}),
    _rule("pc", "watched to the end", paper=True),
    _rule("pcr", "watched share", paper=True),
    _rule("d2q", "quantile of the watch time within its duration group", paper=True),
    _rule("wtg", "Φ of the watch time standardised within its duration"),
    _rule("d2co", "watch time between the noise and the interest of its duration"),
    _rule("sasrec_binary", "more than half watched"),
    _rule("sasrec_ratio", "watched share, replays kept"),
    _rule("wtg_relevant", "a standard deviation above its duration group"),
    _rule("dml_wpr", "percentile rank of the watch time"),
    _rule("dml_wpr_d", "percentile rank of the watch time within its duration group"),
    _rule("dml_ev", "effective view: at the median watch time"),
    _rule("dml_ev_d", "effective view: at the median of its duration group"),
    _rule("dml_ev_u", "effective view: at the median of its user group"),
    _rule("dml_ev_v", "effective view: at the median of its video group"),
    _rule("dml_lv", "long view: at the upper quartile of the watch time"),
    _rule("dml_lv_d", "long view: at the upper quartile of its duration group"),
    _rule("dml_lv_u", "long view: at the upper quartile of its user group"),
    _rule("dml_lv_v", "long view: at the upper quartile of its video group"),
    Method("dvr", ("wtg",), "WTG, not told the duration, an adversary takes the rest out", _DVR, paper=True),
    Method("wt+ef", ("wt", "ef"), "a head each on a shared bottom", paper=True),
    Method("d2q+ef", ("d2q", "ef"), "a head each on a shared bottom", paper=True),
    Method("dvr+ef", ("wtg", "ef"), "a head each on a shared bottom, WTG as in dvr", _DVR, paper=True),
    Method(
        "dml",
        ("dml_wpr_d", "dml_ev_d", "dml_ev_u", "dml_ev_v", "dml_lv_d", "dml_lv_u", "dml_lv_v"),
        "seven debiased labels, a head each",
    ),
    _without("- balancing", "every objective weighs the same", tau=0.0),
    _without("- scaling", "seconds divided by their maximum, without the knee", scaling=False),
    _without("- watch input", "g does not see the watch time", without_input="watch_time"),
    _without("- duration input", "g does not see the duration", without_input="duration"),
    _without("- explicit input", "g does not see explicit feedback", without_input="explicit"),
    _without("- watch objective", "without usage time", disable="usage_time"),
    _without("- duration objective", "without duration spread", disable="duration_spread"),
    _without("- explicit objective", "without engagement", disable="engagement"),
    _without("frozen", "g as it starts, nothing learned", freeze=True),
)
"""Every row, in the order of the report."""
