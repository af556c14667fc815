"""What is fitted, and the rows of the table, which are read off the fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from training.config import Config
from training.experiments.config import MethodSpec
from training.lda import LDA
from training.trees import Target
from training.watch_time import (
    CREAD,
    CWM,
    DML,
    OR,
    TPM,
    VR,
    WLR,
    CREADConfig,
    CWMConfig,
    D2QSeconds,
    D2QSecondsConfig,
    DMLConfig,
    Head,
    ORConfig,
    TPMConfig,
    VRConfig,
    WLRConfig,
)

Error = Literal["mae_s", "rmse_s", "crps"]
Readout = Literal["point", "median", "mean", "median map", "summary"]
"""Seconds of a fit: what the head answers; median or mean of its distribution; or what was learned from the
early-stop rows: the medians of those that it answers alike, or trees of the distribution's summary."""


@dataclass(frozen=True)
class Fit:
    """A head, boosted trees, or, with neither, the constants of the train days."""

    name: str
    head: Callable[[int, Any], Head] | None = None
    """Makes it for states of this width and its config."""
    config: Config | None = None
    """The head's; `None` for the experiment's `LDAConfig`."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What an ablation changes of it."""
    trees: Target | None = None
    """Boosted trees on what the encoder computes without parameters."""
    error: Error = "mae_s"
    """What it is fitted for: stops it early, and is searched by."""
    chosen_as: str = ""
    """The fit by whose hyperparameters it is fitted; by default its own."""

    @property
    def searched(self) -> str:
        """The name in `WatchTimeConfig.chosen`."""
        return self.chosen_as or self.name


@dataclass(frozen=True)
class Method(MethodSpec):
    """One row: seconds that are read off a fit."""

    readout: Readout = "point"


def _ablation(name: str, **changes: Any) -> Fit:
    return Fit(name, LDA, changes=changes, chosen_as="lda")


FITS: Final = {
    fit.name: fit
    for fit in (
        Fit("lda", LDA),
        Fit("or", OR, ORConfig(), error="crps"),
        Fit("tpm", TPM, TPMConfig(), error="crps"),
        Fit("cread", CREAD, CREADConfig(), error="crps"),
        Fit("vr l1", VR, VRConfig(loss="l1")),
        Fit("vr l2", VR, VRConfig(loss="mse"), error="rmse_s"),
        Fit("wlr", WLR, WLRConfig(), error="rmse_s"),
        Fit("d2q l1", D2QSeconds, D2QSecondsConfig(loss="l1")),
        Fit("d2q l2", D2QSeconds, D2QSecondsConfig()),
        Fit("dml l1", DML, DMLConfig(loss="l1")),
        Fit("dml l2", DML, DMLConfig()),
        Fit("cwm l1", CWM, CWMConfig(loss="l1")),
        Fit("cwm l2", CWM, CWMConfig()),
        Fit("trees l1", trees="l1"),
        Fit("trees l2", trees="l2", error="rmse_s"),
        Fit("trees rank", trees="rank"),
        Fit("constant"),
        _ablation("lda - rank", rank=0.0),
        _ablation("lda - alignment", alignment=0.0),
        _ablation("lda - anchors", random_anchors=True),
        _ablation("lda - label cost", label_cost=0.0),
        _ablation("lda - score", crps=0.0, states=0.0),
        _ablation("lda - state", regressor="anchors"),
        _ablation(
            "lda as printed",
            regressor="anchors",
            weights="raw_dot",
            prior="even",
            point="regressor",
            loss="mse",
            rank=0.0,
            label_cost=0.0,
            compactness=0.0,
            crps=0.0,
            states=0.0,
        ),
    )
}
"""By name, in the order in which they are fitted."""


def _row(fit: str, readout: Readout, description: str, **options: Any) -> Method:
    name = fit if readout == "point" else f"{fit} {readout.removesuffix(' map')}"
    return Method(name, description, fit=fit, readout=readout, **options)


METHODS: Final = (
    _row("lda", "point", "label distributions as anchors: what it serves as watch time"),
    _row("lda", "median", "median of its distribution"),
    _row("lda", "mean", "mean of its distribution"),
    _row("lda", "summary", "trees of its states, quantiles, mean and the duration, as DSI's readouts"),
    _row("or", "median", "ordinal regression over equal-frequency thresholds", paper=True),
    _row("or", "mean", "the mean of the same fit", paper=True),
    _row("tpm", "median", "tree of binary questions about the interval of the watch time", paper=True),
    _row("tpm", "mean", "the mean of the same fit", paper=True),
    _row("cread", "median", "ordinal regression over error-adaptive thresholds"),
    _row("cread", "mean", "the mean of the same fit"),
    _row("vr l1", "point", "value regression, absolute error", paper=True),
    _row("vr l2", "point", "value regression, squared error", paper=True),
    _row("wlr", "point", "weighted logistic regression: the odds are the seconds", paper=True),
    _row("wlr", "median map", "the same, mapped to the medians of the early-stop days", paper=True),
    _row("d2q l1", "point", "quantile within the duration group, absolute error", paper=True),
    _row("d2q l2", "point", "quantile within the duration group, squared error", paper=True),
    _row("dml l1", "point", "percentile rank within the duration group, absolute error"),
    _row("dml l2", "point", "percentile rank within the duration group, squared error"),
    _row("cwm l1", "point", "counterfactual watch time, complete plays censored, absolute error", paper=True),
    _row("cwm l2", "point", "counterfactual watch time, complete plays censored, squared error", paper=True),
    _row("trees l1", "point", "boosted trees, absolute error of log(1 + seconds)"),
    _row("trees l2", "point", "boosted trees, squared error of the seconds"),
    _row("trees rank", "point", "boosted trees, squared error of the rank, mapped back to seconds"),
    Method("median", "median watch time of the train days", fit="constant", readout="median", constant=True),
    Method("mean", "mean watch time of the train days", fit="constant", readout="mean", constant=True),
    _row("lda - rank", "point", "no rank term in the loss", ablation=True),
    _row("lda - alignment", "point", "no transport: free weights of the anchors", ablation=True),
    _row("lda - anchors", "point", "random anchors instead of learned ones", ablation=True),
    _row("lda - label cost", "point", "transport without the label, as on the poster", ablation=True),
    _row("lda - score", "point", "no proper score of the distribution in the loss", ablation=True),
    _row(
        "lda - state", "point", "the regressor reads the mean of the anchors, as on the poster", ablation=True
    ),
    _row(
        "lda as printed",
        "point",
        "the poster: dot products, squared error, no rank, transport without the label",
        ablation=True,
    ),
)
"""Every row, in the order of the report."""


def rows_of(fit: str) -> tuple[Method, ...]:
    """Return the rows that are read off a fit."""
    return tuple(method for method in METHODS if method.fit == fit)
