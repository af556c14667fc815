"""The recommender that labels are evaluated with: it learns what it is given, alike for every label."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from models.arrays import F32
from models.errors import BadInput
from training.data import Boundaries, Interactions, Split, SyntheticConfig, simulate_log, split_by_time
from training.encoders import DIN, DinConfig
from training.labels import WT, WTG, labels_of
from training.recommender import (
    Adversary,
    FittedRecommender,
    RecommenderConfig,
    SharedBottom,
    fit_recommender,
    reverse_gradient,
)

pytestmark = pytest.mark.slow

SMALL = RecommenderConfig(
    din=DinConfig(embedding=4, attention=8, tower=(24, 12)),
    duration_groups=10,
    history=5,
    epochs=12,
    batch_size=128,
    learning_rate=3e-3,
    weight_decay=0.1,
    k=5,
)


class Case(NamedTuple):
    log: Interactions
    split: Split
    interest: F32


@cache
def case() -> Case:
    simulated = simulate_log(
        SyntheticConfig(users=120, videos=150, exposures=6000, days=8, policy=0.2), seed=0
    )
    dataset = simulated.dataset()
    log = dataset.interactions(dataset.vocabulary())
    at = Boundaries.at_shares(log.timestamp_ms, meta=0.0, early_stop=0.3, test=0.0)
    return Case(log, split_by_time(log.timestamp_ms, at), simulated.interest.astype(np.float32))


@cache
def fitted(label: str, **changes: Any) -> FittedRecommender:
    log, split, interest = case()
    labels = {
        "interest": interest[:, None],
        "both": np.stack([interest, 1 - interest], axis=1),
        "wt": labels_of(WT().fit(log), log)[:, None],
        "wtg": labels_of(WTG().fit(log), log)[:, None],
    }[label]
    return fit_recommender(log, split.train, split.early_stop, labels, SMALL.model_copy(update=changes))


def correlation(x: F32, y: F32) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def test_it_learns_the_labels_it_is_given() -> None:
    log, split, interest = case()
    rows = split.early_stop
    assert correlation(fitted("interest", stop_by="own").score(rows), interest[rows]) > 0.35
    shuffled = np.random.default_rng(0).permutation(interest)[:, None]
    lost = fit_recommender(log, split.train, rows, shuffled, SMALL)
    assert correlation(lost.score(rows), interest[rows]) < 0.2


def test_each_head_learns_its_own_label_on_the_shared_bottom() -> None:
    _, split, interest = case()
    rows = split.early_stop
    heads = torch.sigmoid(fitted("both", stop_by="own").logits(rows)).numpy()
    assert correlation(heads[:, 0], interest[rows]) > 0.3
    assert correlation(heads[:, 1], interest[rows]) < -0.3


def test_shared_parameters_get_the_mean_of_what_the_heads_ask() -> None:
    torch.manual_seed(0)
    model = SharedBottom(2, SMALL.din, users=5, videos=9, groups=4, tags=3)
    inputs = (
        torch.tensor([1, 2]),
        torch.ones(2, 1, 3, dtype=torch.int64),
        torch.ones(2, 4, 3, dtype=torch.int64),
    )
    label_BT = torch.tensor([[0.1, 0.9], [0.4, 0.2]])

    def gradient(heads: slice) -> Tensor:
        found = torch.sigmoid(model(*inputs)[:, 0, heads])
        loss = torch.nn.functional.mse_loss(found, label_BT[:, heads])
        return torch.autograd.grad(loss, model.din.get_parameter("tower.0.weight"))[0]

    torch.testing.assert_close(gradient(slice(0, 2)), (gradient(slice(0, 1)) + gradient(slice(1, 2))) / 2)


def test_with_one_head_it_is_din() -> None:
    torch.manual_seed(0)
    model = SharedBottom(1, SMALL.din, users=5, videos=9, groups=4, tags=3)
    torch.manual_seed(0)
    din = DIN(users=5, videos=9, groups=4, tags=3, config=SMALL.din)
    inputs = (
        torch.tensor([1]),
        torch.ones(1, 2, 3, dtype=torch.int64),
        torch.ones(1, 3, 3, dtype=torch.int64),
    )
    torch.testing.assert_close(model(*inputs)[..., 0], din(*inputs))


@pytest.mark.parametrize("combine", ["sum", "product", "weighted"])
def test_the_score_of_several_heads_stays_between_the_least_and_the_most_of_them(combine: str) -> None:
    _, split, _ = case()
    rows = split.early_stop[:200]
    config = {"combine": combine, "head_weights": (3.0, 1.0) if combine == "weighted" else ()}
    found = fitted("both", **config)
    heads, score = torch.sigmoid(found.logits(rows)).numpy(), found.score(rows)
    assert (score >= heads.min(axis=1) - 1e-6).all()
    assert (score <= heads.max(axis=1) + 1e-6).all()


def test_a_score_does_not_depend_on_what_is_scored_with_it() -> None:
    _, split, _ = case()
    rows, found = split.early_stop[:64], fitted("interest")
    alone = np.concatenate([found.score(rows[i : i + 1]) for i in range(len(rows))])
    np.testing.assert_allclose(alone, found.score(rows), atol=1e-6)


def test_the_same_seed_gives_the_same_recommender_and_another_seed_another() -> None:
    log, split, interest = case()

    def score(seed: int) -> F32:
        config = SMALL.model_copy(update={"epochs": 1})
        return fit_recommender(log, split.train, None, interest[:, None], config, seed=seed).score(
            split.early_stop
        )

    np.testing.assert_array_equal(score(1), score(1))
    assert np.abs(score(1) - score(2)).max() > 1e-3


def test_early_stopping_gives_back_the_best_epoch_and_follows_the_configured_metric() -> None:
    by_own, by_nwtg = (fitted("interest", epochs=6, patience=6, stop_by=by) for by in ("own", "nwtg"))
    for found in (by_own, by_nwtg):
        figures = [e["stop"] for e in found.curves]
        assert found.best_epoch == int(np.argmax(figures))
    assert all(e["stop"] < 0 for e in by_own.curves)
    assert all(0 < e["stop"] <= 1 for e in by_nwtg.curves)


def test_the_reversal_turns_the_gradient_around_and_leaves_the_value() -> None:
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(reverse_gradient(x), x)
    (straight,) = torch.autograd.grad((x**3).sum(), x)
    (turned,) = torch.autograd.grad((reverse_gradient(x) ** 3).sum(), x)
    torch.testing.assert_close(turned, -straight, rtol=0, atol=0)


def test_the_adversarys_own_gradient_is_the_ordinary_one() -> None:
    torch.manual_seed(0)
    adversary = Adversary()
    score, duration = torch.rand(20, requires_grad=True), torch.randn(20)
    plain = torch.nn.functional.mse_loss(adversary.line(score[:, None])[:, 0], duration)
    want = torch.autograd.grad(plain, [*adversary.parameters(), score])
    got = torch.autograd.grad(adversary(score, duration), [*adversary.parameters(), score])
    for ours, ordinary in zip(got[:-1], want[:-1], strict=True):
        torch.testing.assert_close(ours, ordinary)
    torch.testing.assert_close(got[-1], -want[-1])


def test_dvr_takes_out_of_the_score_what_watch_time_says_of_the_duration() -> None:
    log, split, _ = case()
    rows = split.early_stop
    dvr = fitted("wtg", adversary=0.1, duration_feature=False)
    of_dvr = abs(correlation(dvr.score(rows), log.duration_s[rows]))
    of_wt = abs(correlation(fitted("wt").score(rows), log.duration_s[rows]))
    assert of_wt > 0.3
    assert of_dvr < of_wt / 2


def test_what_it_cannot_do_is_said_in_one_line() -> None:
    log, split, interest = case()
    none = np.zeros(0, np.int64)
    with pytest.raises(BadInput, match="no rows to fit"):
        fit_recommender(log, none, None, interest[:, None], SMALL)
    with pytest.raises(BadInput, match="more than k = 500"):
        fit_recommender(
            log, split.train, split.early_stop, interest[:, None], SMALL.model_copy(update={"k": 500})
        )
    with pytest.raises(BadInput, match="diverged"):
        fit_recommender(
            log, split.train, None, interest[:, None], SMALL.model_copy(update={"learning_rate": 1e30})
        )
    with pytest.raises(ValueError, match="labels_NT"):
        fit_recommender(log, split.train, None, interest, SMALL)
    weighted = SMALL.model_copy(update={"combine": "weighted"})
    with pytest.raises(ValueError, match="head_weights"):
        fit_recommender(log, split.train, None, interest[:, None], weighted)


@pytest.mark.parametrize("stops", [True, False])
def test_a_fit_that_diverges_in_its_last_step_is_refused_too(stops: bool) -> None:
    log, split, interest = case()
    stop = split.early_stop if stops else None
    config = SMALL.model_copy(update={"learning_rate": 1e30, "epochs": 1})
    with pytest.raises(BadInput, match="diverged"):
        fit_recommender(log, split.train[:100], stop, interest[:, None], config)
