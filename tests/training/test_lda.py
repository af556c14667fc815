"""LDA: what inference must not touch, its transport, and planted data with several peaks."""

# Shape suffixes: N exposures, D state.

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.metrics import COMPLETE_RATIO
from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.lda import LDA, VQVAE, AnchorsConfig, LDAConfig, _transport_plan
from training.lda import _head as _lda
from training.watch_time import VR, VRConfig, state_edges, state_probabilities

TINY = LDAConfig.model_validate(wt.TINY_LDA)


def fitted(config: LDAConfig = TINY) -> LDA:
    torch.manual_seed(0)
    return LDA(wt.STATE, config).fit_tables(wt.heavy_tailed_log(), seed=0)


@pytest.fixture(scope="module")
def head() -> LDA:
    return fitted()


def test_inference_calls_neither_transport_nor_vqvae(head: LDA, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def tripwire(name: str) -> Callable[..., Tensor]:
        def raise_if_called(*_: object, **__: object) -> Tensor:
            calls.append(name)
            raise AssertionError(f"{name} was called")

        return raise_if_called

    monkeypatch.setattr(_transport_plan, "sinkhorn", tripwire("sinkhorn"))
    monkeypatch.setattr(_lda, "transport_plan", tripwire("transport"))
    monkeypatch.setattr(VQVAE, "encode", tripwire("encode"))
    wt.served(head, *wt.states(10))
    assert calls == []
    state, duration = wt.states(10)
    with pytest.raises(AssertionError, match="transport was called"):  # the wire is live
        head.train().loss(state, duration, duration)
    head.eval()


def test_inference_reads_the_frozen_anchors_alone(head: LDA) -> None:
    """p_k is a buffer when serving: changing what it was computed from changes nothing until refrozen."""
    copy = LDA(wt.STATE, TINY)
    copy.load_state_dict(head.state_dict())
    copy.eval()
    before = wt.served(copy, *wt.states(10))
    with torch.no_grad():
        copy.from_anchor.weight.mul_(-1)
    kept = copy.seconds(*wt.states(10))
    torch.testing.assert_close(kept, before[0], rtol=0, atol=0)
    copy.freeze_anchors()
    assert not torch.allclose(copy.seconds(*wt.states(10)), before[0])


def test_eval_mode_refreezes_what_training_moved() -> None:
    head = fitted().train()
    with torch.no_grad():
        head.from_anchor.weight.mul_(-1)
    live = head.seconds(*wt.states(10))
    torch.testing.assert_close(head.eval().seconds(*wt.states(10)), live)


def test_other_groups_anchors_have_no_weight(head: LDA) -> None:
    """Whatever happens to another group's anchors, a row of this one does not move."""
    copy = LDA(wt.STATE, TINY)
    copy.load_state_dict(head.state_dict())
    copy.eval()
    state, duration = wt.states(300)
    group = copy.groups(duration)
    before = [copy.seconds(state, duration), *copy.distribution(state, duration)]
    for table in (copy.anchor_key, copy.anchors.ratio, copy.anchors.width):
        table[1] = 77.0
    after = [copy.seconds(state, duration), *copy.distribution(state, duration)]
    assert 0 < (group == 1).sum() < 300
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a[group != 1], b[group != 1], rtol=0, atol=0)
    assert not torch.allclose(before[0][group == 1], after[0][group == 1])


def test_pseudo_labels_carry_no_gradient_and_lie_near_the_label() -> None:
    head = fitted().train()
    state, duration = wt.states(200)
    duration = duration.clamp(5, 300)
    watch = duration * torch.rand(200, generator=torch.Generator().manual_seed(1))
    label = head.pseudo_labels(head.attend(state, duration), duration, watch)
    assert not label.requires_grad
    torch.testing.assert_close(label.sum(-1), torch.ones(200))
    stands_for = (label * head.distribution(state, duration)[1]).sum(-1)
    assert np.corrcoef(stands_for.numpy(), (watch / duration).numpy())[0, 1] > 0.8


def test_alignment_draws_states_to_their_anchors() -> None:
    state, duration = wt.states(200)
    duration = duration.clamp(5, 300)
    watch = duration * state[:, 0].sigmoid()

    def distance(alignment: float, steps: int) -> float:
        """Mean of Σ Q̃ (1 - cos) after so many steps."""
        head = fitted(TINY.model_copy(update={"alignment": alignment})).train()
        adam = torch.optim.Adam(head.parameters(), lr=3e-3)
        for _ in range(steps):
            adam.zero_grad()
            head.loss(state, duration, watch).backward()  # type: ignore[no-untyped-call]
            adam.step()
        with torch.no_grad():
            at = head.attend(state, duration)
            return float((head.pseudo_labels(at, duration, watch) * (1 - at.cosine)).sum(-1).mean())

    assert distance(1.0, 40) < 0.9 * distance(1.0, 0)
    assert distance(1.0, 40) < distance(0.0, 40)


def test_compactness_adds_to_the_loss(head: LDA) -> None:
    state, duration = wt.states(50)
    compact = LDA(wt.STATE, TINY.model_copy(update={"compactness": 1.0}))
    compact.load_state_dict(head.state_dict())
    assert compact.loss(state, duration, duration) > head.loss(state, duration, duration)


def test_a_law_with_the_training_shares_has_their_mean_and_their_states() -> None:
    """Of each group: whatever its anchors learned, the law of their shares is that of its rows."""
    rng = np.random.default_rng(0)
    duration = np.exp(rng.normal(3.5, 0.9, 4000)).clip(5, 300)
    ended = np.where(rng.random(4000) < 0.2, rng.uniform(0.98, 1.02, 4000), rng.lognormal(-1.5, 1.2, 4000))
    log = watch_log(ended * duration, duration)
    anchors = AnchorsConfig(anchors=16, code_dim=8, sequences=1024, epochs=10)
    head = LDA(wt.STATE, TINY.model_copy(update={"anchors": anchors})).fit_tables(log, seed=0)
    group = head.groups(torch.from_numpy(log.duration_s))
    ratio = log.watch_time_s / log.duration_s
    for g in range(TINY.groups):
        rows = (group == g).numpy()
        index = torch.tensor([g])
        cell_NM = head.anchors.cells(head.anchors.share[index], index)
        mean = float((head.anchors.share[g] * head.anchors.mean[g]).sum())
        assert mean == pytest.approx(ratio[rows].mean(), rel=0.03)
        ends = torch.tensor([[1 - COMPLETE_RATIO, 1 + COMPLETE_RATIO]])
        below = head.anchors.ranks(ends, cell_NM, index)[0].numpy()
        np.testing.assert_allclose(below, (ratio[rows, None] <= ends.numpy()).mean(0), atol=1e-3)


def test_served_weights_are_those_that_are_learned() -> None:
    """All anchors by matrix products when serving, each row's own anchors when learning: the same weights,
    which with the prior are the shares of the training rows where the state says nothing."""
    for prior in ("even", "share"):
        head = fitted(TINY.model_copy(update={"prior": prior})).eval()
        state, duration = wt.states(50)
        with torch.no_grad():
            attended = head.attend(state, duration)
            found = head.predict(state, duration)
            torch.testing.assert_close(found.weights, attended.log_weight.exp())
            cell = head.anchors.cells(found.weights, attended.group)
            rank = head.anchors.ranks(state_edges(duration), cell, attended.group)
            torch.testing.assert_close(found.states, state_probabilities(rank), atol=1e-4, rtol=1e-4)
            head.anchor_key.zero_()
            silent = head.predict(state, duration).weights
        want = head.anchors.share[attended.group].clamp(min=1e-4) if prior == "share" else torch.ones(50, 8)
        torch.testing.assert_close(silent, want / want.sum(-1, keepdim=True))


def test_half_regressor_half_median_is_halfway_between_them() -> None:
    regressor = fitted()
    heads = [LDA(wt.STATE, TINY.model_copy(update={"point": point})) for point in ("median", "both")]
    for head in heads:
        head.load_state_dict(regressor.state_dict())
        head.eval()
    state, duration = wt.states(50)
    g, median, both = (head.seconds(state, duration) for head in (regressor.eval(), *heads))
    torch.testing.assert_close(median, heads[0].quantiles_s(state, duration)[:, 1])
    torch.testing.assert_close(both, (g + median) / 2)


@pytest.mark.parametrize("score", ["crps", "states"])
def test_a_proper_score_alone_teaches_the_median(score: str) -> None:
    alone = {"alignment": 0.0, "rank": 0.0, score: 1.0}
    state, duration = wt.states(400)
    duration = duration.clamp(5, 300)
    watch = duration * torch.where(state[:, 0] > 0, 1.0, 0.03)
    head = fitted(TINY.model_copy(update=alone)).train()
    adam = torch.optim.Adam(head.parameters(), lr=3e-3)

    def error() -> Tensor:
        with torch.no_grad():
            return (head.eval().quantiles_s(state, duration)[:, 1] - watch).abs().mean()

    before = error()
    head.train()
    for _ in range(60):
        adam.zero_grad()
        head.loss(state, duration, watch).backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert error() < before / 2


# --- Planted data: each group of durations has its own three peaks, and x decides which one a row is at.

PEAKS = np.array([[0.03, 0.5, 1.0], [0.02, 0.35, 1.0], [0.05, 0.6, 1.5], [0.02, 0.2, 0.9]])
PLANTED = LDAConfig(
    groups=4, dim=32, anchors=AnchorsConfig(anchors=8, code_dim=16, sequences=1024, epochs=20)
)
SEEDS = range(5)


class Planted(NamedTuple):
    feature: Tensor
    """`[N, 9]`"""
    duration: Tensor
    """`[N]` seconds"""
    watch_time: Tensor
    """`[N]` seconds"""


def planted(n: int, seed: int) -> Planted:
    rng = np.random.default_rng(seed)
    taste_a, taste_b = (np.random.default_rng(s).normal(size=(8, 3)) for s in (7, 8))
    x = rng.normal(size=(n, 8))
    bend = np.abs(x @ taste_b)
    logit = 4 * (np.tanh(x @ taste_a) + bend - bend.mean(0))
    peak = (logit + rng.gumbel(size=logit.shape)).argmax(1)
    duration = np.exp(rng.normal(3.5, 0.8, n)).clip(5, 300)
    group = np.searchsorted(np.quantile(duration, [0.25, 0.5, 0.75]), duration)
    ratio = np.maximum(PEAKS[group, peak] + 0.02 * rng.normal(size=n), 0)
    columns = (np.c_[x, np.log(duration) - 3.5], duration, ratio * duration)
    return Planted(*(torch.from_numpy(c.astype(np.float32)) for c in columns))


class Score(NamedTuple):
    mae_s: float
    pinball_s: float


def score(make: Callable[[], LDA | VR], seed: int) -> Score:
    """Fit a one-layer backbone and the head for 12 passes over 2000 rows; evaluate on 4000 others."""
    train, test = planted(2000, seed), planted(4000, seed + 1000)
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Linear(9, 32), nn.GELU())
    head = make().fit_tables(watch_log(train.watch_time.numpy(), train.duration.numpy()), seed=seed)
    adam = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=3e-3)
    head.train()
    for _ in range(12):
        for rows in torch.split(torch.randperm(2000), 256):
            state = backbone(train.feature[rows])
            adam.zero_grad()
            head.loss(state, train.duration[rows], train.watch_time[rows]).backward()  # type: ignore[no-untyped-call]
            adam.step()
    head.eval()
    with torch.no_grad():
        state = backbone(test.feature)
        mae = float((head.seconds(state, test.duration) - test.watch_time).abs().mean())
        if isinstance(head, VR):
            return Score(mae, float("nan"))
        over = test.watch_time[:, None] - head.quantiles_s(state, test.duration)
        level = torch.tensor([0.1, 0.5, 0.9])
        return Score(mae, float(torch.maximum(level * over, (level - 1) * over).mean()))


def median_score(make: Callable[[], LDA | VR]) -> Score:
    return Score(*np.median([score(make, seed) for seed in SEEDS], axis=0).tolist())


@pytest.fixture(scope="module")
def full() -> Score:
    return median_score(lambda: LDA(32, PLANTED))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_errs_less_than_value_regression_on_the_same_backbone_and_budget(full: Score, loss: str) -> None:
    config = VRConfig.model_validate({"loss": loss})
    assert full.mae_s < 0.8 * median_score(lambda: VR(32, config)).mae_s


@pytest.mark.slow
@pytest.mark.parametrize("ablation", [{"alignment": 0.0}, {"random_anchors": True}], ids=str)
def test_is_better_than_without_its_parts(full: Score, ablation: dict[str, float]) -> None:
    without = median_score(lambda: LDA(32, PLANTED.model_copy(update=ablation)))
    assert full.mae_s < without.mae_s
    assert full.pinball_s < 0.8 * without.pinball_s
