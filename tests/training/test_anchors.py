"""Anchors on a planted trimodal group: local sequences find its modes, i.i.d. ones cannot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from training.lda import Anchors, AnchorsConfig, fit_anchors, random_anchors

MODES = (0.02, 0.5, 1.0)
K = 16
SMALL = AnchorsConfig(anchors=K, sequences=1024, epochs=50)


def trimodal(n: int = 4000, seed: int = 0) -> npt.NDArray[np.float32]:
    """Skip, half, whole."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(MODES, n, p=[0.45, 0.2, 0.35])
    return np.abs(mode + 0.03 * rng.normal(size=n)).astype(np.float32)


def long_tail(n: int = 4000) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).exponential(0.05, n).astype(np.float32)


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    return fit_anchors([trimodal(), long_tail()], SMALL, seed=0)


@pytest.mark.slow
def test_codes_are_used_and_their_means_cover_the_distribution(anchors: Anchors) -> None:
    assert (anchors.perplexity > K / 3).all()
    assert (anchors.spread >= 0.5).all()


@pytest.mark.slow
def test_every_mode_has_an_anchor(anchors: Anchors) -> None:
    for mode in MODES:
        assert (anchors.mean[0] - mode).abs().min() < 0.05


@pytest.mark.slow
def test_iid_sequences_fool_the_perplexity_but_not_the_spread(anchors: Anchors) -> None:
    """§4.2: all codes in use, all decoding to the same distribution."""
    iid = fit_anchors([trimodal()], SMALL.model_copy(update={"sampling": "iid"}), seed=0)
    assert iid.perplexity[0] > K / 3
    assert iid.spread[0] < 0.3
    nearest_iid, nearest_local = (
        np.abs(trimodal()[:, None] - a.mean[0].numpy()).min(1).mean() for a in (iid, anchors)
    )
    assert nearest_local < nearest_iid / 5


@pytest.mark.slow
def test_anchors_ascend_and_decode_to_ascending_ratios(anchors: Anchors) -> None:
    assert (anchors.mean.diff(dim=-1) >= 0).all()
    assert (anchors.ratio.diff(dim=-1) >= 0).all()
    assert (anchors.ratio >= 0).all()
    torch.testing.assert_close(anchors.share.sum(-1), torch.ones(2))


def test_the_same_seed_gives_the_same_anchors() -> None:
    config = AnchorsConfig(anchors=4, sequences=256, epochs=3)
    torch.manual_seed(1)
    one = fit_anchors([trimodal()], config, seed=5)
    torch.manual_seed(2)
    two = fit_anchors([trimodal()], config, seed=5)
    torch.testing.assert_close(one.ratio, two.ratio, rtol=0, atol=0)
    assert not torch.equal(one.ratio, fit_anchors([trimodal()], config, seed=6).ratio)


def test_replays_are_clipped() -> None:
    ratio = np.concatenate([trimodal(), np.full(10, 500.0, np.float32)])
    tiny = AnchorsConfig(anchors=4, sequences=256, epochs=10)
    assert fit_anchors([ratio], tiny, seed=0).ratio.max() < 4
    assert random_anchors([ratio], tiny, seed=0).ratio.max() <= 3


def test_a_group_of_one_ratio_is_no_special_case() -> None:
    flat = fit_anchors(
        [np.full(50, 0.25, np.float32)], AnchorsConfig(anchors=4, sequences=64, epochs=2), seed=0
    )
    torch.testing.assert_close(flat.mean, torch.full((1, 4), 0.25), rtol=0, atol=1e-3)


def test_an_empty_group_is_refused() -> None:
    with pytest.raises(ValueError, match="no watch ratio"):
        fit_anchors([np.zeros(0, np.float32)], SMALL, seed=0)
