"""The properties that every watch-time head has; what is special to one is in its own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import _watch_time_asserts as wt
from training.config import Config
from training.watch_time import (
    CREAD,
    CWM,
    OR,
    TPM,
    VR,
    WLR,
    CREADConfig,
    CWMConfig,
    D2QSeconds,
    D2QSecondsConfig,
    DistributionHead,
    Head,
    ORConfig,
    TPMConfig,
    VRConfig,
    WLRConfig,
)

HEADS: dict[str, tuple[Callable[..., Head], type[Config], dict[str, Any]]] = {
    "vr": (VR, VRConfig, {}),
    "wlr every": (WLR, WLRConfig, {"negatives": "every"}),
    "wlr skips": (WLR, WLRConfig, {"negatives": "skips"}),
    "wlr below_quantile": (WLR, WLRConfig, {"negatives": "below_quantile"}),
    "d2q": (D2QSeconds, D2QSecondsConfig, {"groups": 4}),
    "cwm": (CWM, CWMConfig, {}),
    "or restored": (OR, ORConfig, {"point": "restored"}),
    "or median": (OR, ORConfig, {"point": "median"}),
    "tpm mean": (TPM, TPMConfig, {"point": "mean"}),
    "tpm median": (TPM, TPMConfig, {"point": "median"}),
    "cread restored": (CREAD, CREADConfig, {"point": "restored"}),
    "cread median": (CREAD, CREADConfig, {"point": "median"}),
}
EVERY = pytest.mark.parametrize("name", HEADS)
DISTRIBUTIONS = {name for name in HEADS if name.partition(" ")[0] in ("or", "tpm", "cread")}


def new(name: str) -> Head:
    head, config, options = HEADS[name]
    torch.manual_seed(0)
    return head(wt.STATE, config.model_validate(options))


def fitted(name: str) -> Head:
    return new(name).fit_tables(wt.heavy_tailed_log(), seed=0)


@EVERY
def test_answers_finite_seconds_of_the_row_alone(name: str) -> None:
    head = fitted(name)
    assert isinstance(head, Head)
    wt.assert_answers_finite_seconds(head)
    wt.assert_rows_do_not_see_each_other(head)


@EVERY
def test_has_a_distribution_or_has_none(name: str) -> None:
    head = fitted(name)
    assert isinstance(head, DistributionHead) == (name in DISTRIBUTIONS)
    if isinstance(head, DistributionHead):
        wt.assert_is_a_distribution(head)


@pytest.mark.parametrize(
    "name",
    ["vr", "wlr every", "wlr below_quantile", "d2q", "cwm", "or restored", "tpm mean", "cread restored"],
)
def test_exports(name: str, tmp_path: Path) -> None:
    wt.assert_onnx_agrees_with_torch(fitted(name), tmp_path)


@EVERY
def test_is_saved_whole(name: str) -> None:
    wt.assert_survives_a_round_trip(fitted(name), new(name))


@EVERY
def test_refuses_without_tables(name: str) -> None:
    wt.assert_refuses_to_learn_before_its_tables(new(name))
