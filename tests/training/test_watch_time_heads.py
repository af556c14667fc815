"""The properties that every watch-time head has; what is special to one is in its own file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.config import Config
from training.lda import LDA, LDAConfig
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
    DistributionHead,
    DMLConfig,
    Head,
    ORConfig,
    Prediction,
    TPMConfig,
    VRConfig,
    WLRConfig,
    mixture_quantiles,
)

HEADS: dict[str, tuple[Callable[..., Head], type[Config], dict[str, Any]]] = {
    "vr": (VR, VRConfig, {}),
    "wlr every": (WLR, WLRConfig, {"negatives": "every"}),
    "wlr skips": (WLR, WLRConfig, {"negatives": "skips"}),
    "wlr below_quantile": (WLR, WLRConfig, {"negatives": "below_quantile"}),
    "d2q": (D2QSeconds, D2QSecondsConfig, {"groups": 4}),
    "dml": (DML, DMLConfig, {"groups": 4}),
    "cwm": (CWM, CWMConfig, {}),
    "or restored": (OR, ORConfig, {"point": "restored"}),
    "or median": (OR, ORConfig, {"point": "median"}),
    "tpm mean": (TPM, TPMConfig, {"point": "mean"}),
    "tpm median": (TPM, TPMConfig, {"point": "median"}),
    "cread restored": (CREAD, CREADConfig, {"point": "restored"}),
    "cread median": (CREAD, CREADConfig, {"point": "median"}),
    "lda mean": (LDA, LDAConfig, wt.TINY_LDA),
    "lda median": (LDA, LDAConfig, {**wt.TINY_LDA, "point": "median"}),
    "lda of seconds": (LDA, LDAConfig, {**wt.TINY_LDA, "target": "time"}),
    "lda with a prior": (LDA, LDAConfig, {**wt.TINY_LDA, "prior": "share", "point": "both"}),
    "lda of raw products": (LDA, LDAConfig, {**wt.TINY_LDA, "weights": "raw_dot"}),
}
EVERY = pytest.mark.parametrize("name", HEADS)
DISTRIBUTIONS = {name for name in HEADS if name.partition(" ")[0] in ("or", "tpm", "cread", "lda")}
SAME_GRAPH = {"wlr skips", "or median", "tpm median", "cread median"}
"""Those whose graph differs from another's in a number or a quantile."""


def new(name: str) -> Head:
    head, config, options = HEADS[name]
    torch.manual_seed(0)
    return head(wt.STATE, config.model_validate(options))


@cache
def fitted(name: str) -> Head:
    return new(name).fit_tables(wt.heavy_tailed_log(), seed=0)


@EVERY
def test_answers_finite_seconds_for_any_leading_dims(name: str) -> None:
    head = fitted(name)
    assert isinstance(head, Head)
    for shape in ((0,), (1,), (7,), (2, 5)):
        seconds = wt.served(head, *wt.states(*shape))[0]
        assert seconds.shape == shape
        assert seconds.isfinite().all()
        assert (seconds >= 0).all()


@EVERY
def test_depends_on_the_row_alone(name: str) -> None:
    """One candidate or a thousand: the same prediction, and in any order."""
    head = fitted(name)
    state, duration = wt.states(1000)
    whole = wt.served(head, state, duration)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(1))
    for got, want in zip(wt.served(head, state[order], duration[order]), whole, strict=True):
        torch.testing.assert_close(got, want[order], rtol=1e-5, atol=1e-6)
    for row in (0, 1, 500):
        alone = wt.served(head, state[row : row + 1], duration[row : row + 1])
        for got, want in zip(alone, whole, strict=True):
            torch.testing.assert_close(got, want[row : row + 1], rtol=1e-5, atol=1e-6)


@EVERY
def test_has_a_distribution_or_has_none(name: str) -> None:
    head = fitted(name)
    assert isinstance(head, DistributionHead) == (name in DISTRIBUTIONS)
    if isinstance(head, DistributionHead):
        wt.assert_is_a_distribution(head)


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_mean_and_score_are_those_of_the_law_that_has_the_quantiles(name: str) -> None:
    head = fitted(name)
    state, duration = wt.states(50)
    found = Prediction(*wt.served(head, state, duration))
    levels = tuple(((np.arange(20_000) + 0.5) / 20_000).tolist())
    if isinstance(head, LDA):
        group = head.groups(duration)
        quantiles = head.anchors.quantiles(head.anchors.cells(found.weights, group), group, levels)
        quantiles = quantiles * duration[:, None]
    else:
        assert isinstance(head, OR | TPM | CREAD)
        edge = head.parts.edge_s
        quantiles = mixture_quantiles(found.weights, edge[:1], edge.diff(), levels)
    torch.testing.assert_close(found.mean_s, quantiles.mean(-1), rtol=1e-3, atol=1e-3)
    # the score is twice the pinball loss, over all levels
    watched = torch.linspace(0, 120, len(duration))
    away = quantiles - watched[:, None]
    expected = 2 * (((away > 0).to(away) - torch.tensor(levels)) * away).mean(-1)
    crps = head.crps_s(found.weights, duration, watched)
    torch.testing.assert_close(crps, expected, rtol=1e-3, atol=1e-3)


@EVERY
def test_learns_from_a_finite_loss(name: str) -> None:
    head = new(name)
    assert isinstance(head, nn.Module)
    head.load_state_dict(fitted(name).state_dict())  # type: ignore[attr-defined]
    state, duration = wt.states(20)
    assert head.train().loss(state, duration, duration / 2).isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in HEADS if name not in SAME_GRAPH])
def test_exports(name: str, tmp_path: Path) -> None:
    """One export with free leading dims answers N = 0, 1 and 7 as torch does."""
    head = fitted(name)
    net = wt.Served(head).eval()
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    path = tmp_path / "head.onnx"
    with pytest.warns():  # the exporter's own deprecations
        program = torch.onnx.export(
            net, wt.states(2, 3), dynamo=True, opset_version=18, dynamic_shapes=(free, free), verbose=False
        )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    names = [i.name for i in session.get_inputs()]
    for n in (0, 1, 7):
        state, duration = wt.states(1, n, seed=n)
        feed = {k: v.numpy() for k, v in zip(names, (state, duration), strict=False)}
        for got, want in zip(session.run(None, feed), wt.served(head, state, duration), strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


@EVERY
def test_is_saved_whole(name: str) -> None:
    """State dict into a head that never saw the data: the same answers."""
    saved, fresh = fitted(name), new(name)
    assert isinstance(saved, nn.Module)
    assert isinstance(fresh, nn.Module)
    fresh.load_state_dict(saved.state_dict())
    for got, want in zip(wt.served(fresh, *wt.states(50)), wt.served(saved, *wt.states(50)), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


@EVERY
def test_refuses_to_learn_before_its_tables(name: str) -> None:
    head = new(name)
    state, duration = wt.states(4)
    with pytest.raises(ValueError, match="call `fit_tables` first"):
        head.loss(state, duration, duration)
    with pytest.raises(ValueError, match="no rows"):
        head.fit_tables(watch_log([], []), seed=0)
