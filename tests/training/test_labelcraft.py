"""LabelCraft on a log whose truth is known: labels move towards it, and slates get better for it.

As in `compare labels`, labels are evaluated in two stages: the same recommender is fitted on any labels, and
the objectives are measured on its slates of later days.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from models.arrays import I64
from models.errors import BadInput
from models.metrics import nwtg_at_k
from training.data import Boundaries, Interactions, Split, SyntheticConfig, simulate_log, split_by_time
from training.encoders import DinConfig, slates
from training.labelcraft import (
    OBJECTIVES,
    FittedLabels,
    LabelCraftConfig,
    _train,
    candidates_of,
    fit_labelcraft,
)
from training.labelcraft._hold_out import HoldOut
from training.labelcraft.closed_form import Composite
from training.labels import EF, PC, PCR, WT, LabelMaker, Scale, labels_of
from training.recommender import FittedRecommender, RecommenderConfig, fit_recommender
from training.train.checkpoints import Checkpoint, State

pytestmark = pytest.mark.slow

K = 5
SEEDS = (0, 1, 2)
SIMULATED = SyntheticConfig(
    users=150,
    videos=200,
    exposures=8000,
    days=8,
    policy=0.2,
    hurried_sessions=0.05,
    rates={
        "like": 0.06,
        "follow": 0.03,
        "comment": 0.03,
        "forward": 0.02,
        "hate": 0.005,
        "profile_enter": 0.02,
    },
)
SMALL = DinConfig(embedding=8, attention=16, tower=(64, 32))
PLANTED = LabelCraftConfig(
    recommender=SMALL,
    duration_groups=20,
    batch_size=256,
    history=10,
    epochs=12,
    user_share=0.3,
    inner_optimiser="adam",
    lr_recommender=3e-3,
    weight_decay=0.3,
    warmup_epochs=1,
    inputs="log",
    outer_optimiser="adam",
    lr_labels=3e-3,
    balance="poster",
    k=K,
    warm_start=False,
)
EVALUATOR = RecommenderConfig(
    din=SMALL, duration_groups=20, batch_size=256, history=10, epochs=5, learning_rate=3e-3, weight_decay=0.3
)
TINY = LabelCraftConfig(
    batch_size=256,
    history=5,
    epochs=2,
    k=2,
    hidden=8,
    recommender=DinConfig(embedding=2, attention=4, tower=(8, 4)),
    outer_optimiser="adam",
    lr_labels=1e-2,
    lr_recommender=0.3,
    warm_start=False,
)


class Planted(NamedTuple):
    log: Interactions
    split: Split
    utility: Tensor


@cache
def planted() -> Planted:
    simulated = simulate_log(SIMULATED, seed=0)
    dataset = simulated.dataset()
    log = dataset.interactions(dataset.vocabulary())
    at = Boundaries.at_shares(log.timestamp_ms, meta=0.25, early_stop=0.25, test=0.0)
    return Planted(log, split_by_time(log.timestamp_ms, at), torch.from_numpy(simulated.utility).float())


@cache
def learned(seed: int = 0, **changes: Any) -> FittedLabels:
    log, split, _ = planted()
    return fit_labelcraft(log, split.train, split.meta, None, PLANTED.model_copy(update=changes), seed=seed)


@cache
def score(maker: Any) -> FittedRecommender:
    """The recommender fitted on a maker's labels."""
    log, split, _ = planted()
    return fit_recommender(log, split.train, None, labels_of(maker, log)[:, None], EVALUATOR)


def worth(maker: Any, rows: I64) -> dict[str, float]:
    """Means over users of the objectives of its slates from these rows, and `composite`, their sum."""
    log, split, _ = planted()
    known = log.take(split.train)
    scales = Scale(name="watch time").fit(known.watch_time_s), Scale(name="duration").fit(known.duration_s)
    users = slates(log, rows, more_than=K)
    candidates, score_N = candidates_of(log, users, *scales), torch.zeros(len(log), dtype=torch.float64)
    score_N[torch.from_numpy(rows)] = torch.from_numpy(score(maker).score(rows).astype(np.float64))
    composite = Composite([candidates], OBJECTIVES, K)
    slate_UC = composite.slates(candidates, score_N[torch.from_numpy(users.rows)]).float()
    values = {name: float(one(slate_UC, candidates).mean()) for name, one in OBJECTIVES.items()}
    return values | {"composite": sum(values.values())}


def correlation(maker: LabelMaker) -> float:
    log, _, utility = planted()
    with torch.no_grad():
        return float(torch.corrcoef(torch.stack([maker(torch.from_numpy(log.feedback)), utility]))[0, 1])


def test_labels_move_towards_the_planted_utility() -> None:
    """Over seeds: where one start ends depends on the last digit, and so on the processor."""
    learning = np.mean([correlation(learned(seed).label_maker) for seed in SEEDS])
    starting = np.mean([correlation(learned(seed, freeze=True, epochs=1).label_maker) for seed in SEEDS])
    assert learning > starting + 0.3
    assert learning > 0.4


@pytest.mark.parametrize("rule", [PC, PCR, WT, EF])
def test_its_labels_serve_the_platform_better_than_every_fixed_rule(rule: type[LabelMaker]) -> None:
    log, split, _ = planted()
    fixed = worth(rule().fit(log.take(split.train)), split.early_stop)
    assert worth(learned().label_maker, split.early_stop)["composite"] > 1.2 * fixed["composite"]


def test_a_frozen_label_maker_serves_it_worse() -> None:
    """What kills a fake that skips the outer step."""
    rows = planted().split.early_stop
    frozen = worth(learned(freeze=True, epochs=1).label_maker, rows)
    assert worth(learned().label_maker, rows)["composite"] > 1.5 * frozen["composite"]


@pytest.mark.parametrize("name", ["usage_time", "engagement", "duration_spread"])
def test_without_an_objective_less_of_it_comes_out(name: str) -> None:
    split = planted().split
    rows = np.union1d(split.meta, split.early_stop)

    def mean(**changes: Any) -> float:
        """Over seeds: one fit may end anywhere, and elsewhere on another processor."""
        return float(np.mean([worth(learned(seed, **changes).label_maker, rows)[name] for seed in range(3)]))

    assert mean(disable=name) < mean()


def test_the_warm_start_knows_the_rows_own_share_of_the_objectives() -> None:
    """Longer watched and explicit feedback are labelled higher from the first step on."""
    fitted = learned(warm_start=True, freeze=True, epochs=1)
    feedback = torch.zeros(3, 8)
    feedback[:, 0] = torch.tensor([1.0, 90.0, 1.0])
    feedback[:, 1] = 60.0
    feedback[2, 2] = 1.0
    skipped, watched, liked = fitted.label_maker(feedback).tolist()
    assert skipped < watched
    assert skipped < liked
    assert skipped == pytest.approx(0.2, abs=0.05)


def tiny(**changes: Any) -> LabelCraftConfig:
    return TINY.model_copy(update=changes)


def test_the_mean_label_stays_where_it_started_and_without_that_labels_end_at_a_constant() -> None:
    log, split, _ = planted()

    def mean(**change: Any) -> float:
        config = tiny(epochs=3, lr_labels=0.3, **change)
        return float(fit_labelcraft(log, split.train, split.meta, None, config).curves[-1]["label_mean"])

    assert mean() == pytest.approx(mean(freeze=True), abs=0.05)
    assert not 0.05 < mean(hold_level=False) < 0.95


def test_the_same_seed_gives_the_same_fit_and_another_one_another() -> None:
    log, split, _ = planted()

    def label(seed: int) -> Tensor:
        fitted = fit_labelcraft(log, split.train, split.meta, split.early_stop, TINY, seed=seed)
        out: Tensor = fitted.label_maker(torch.from_numpy(log.feedback[:50])).detach()
        return out

    torch.testing.assert_close(label(1), label(1), rtol=0, atol=0)
    assert float((label(1) - label(2)).abs().max()) > 1e-3


def test_a_fit_resumed_from_a_checkpoint_is_the_fit_that_was_not_stopped(tmp_path: Path) -> None:
    log, split, _ = planted()

    class Stopping(Checkpoint):
        """Stops the fit after its second epoch."""

        def write(self, state: State) -> None:
            super().write(state)
            if state["parts"][0]["next_epoch"] == 2:
                raise KeyboardInterrupt

    def fit(checkpoint: Checkpoint) -> FittedLabels:
        return fit_labelcraft(
            log, split.train, split.meta, split.early_stop, tiny(epochs=4), checkpoint=checkpoint
        )

    whole, path = fit(Checkpoint()), tmp_path / "labels.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(Stopping(path))
    resumed = fit(Checkpoint(path))
    assert [c["epoch"] for c in resumed.curves] == [0, 1, 2, 3]
    rows = split.early_stop
    np.testing.assert_array_equal(whole.score(rows), resumed.score(rows))
    assert [c["nwtg"] for c in resumed.curves] == [c["nwtg"] for c in whole.curves]
    assert resumed.best_epoch == whole.best_epoch


def test_early_stopping_gives_back_the_best_epoch() -> None:
    log, split, _ = planted()
    config = tiny(epochs=6, patience=2, min_gain=0.0)
    fitted = fit_labelcraft(log, split.train, split.meta, split.early_stop, config)
    figures = [c["nwtg"] for c in fitted.curves]
    assert fitted.best_epoch == int(np.argmax(figures))
    rows = split.early_stop
    found = nwtg_at_k(log.user[rows], fitted.score(rows), log.watch_time_s[rows], config.k).weighted_mean
    assert found == pytest.approx(figures[fitted.best_epoch], abs=1e-9)
    assert len(figures) <= fitted.best_epoch + 1 + config.patience


def test_no_epoch_of_the_warm_up_is_chosen_however_good_its_recommender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its labels are where they started. The best epoch after it is, and patience counts from there."""
    log, split, _ = planted()
    nwtg = iter([0.9, 0.8, 0.3, 0.2, 0.1])
    monkeypatch.setattr(_train, "early_stop_nwtg", lambda *_: next(nwtg))
    config = tiny(epochs=5, warmup_epochs=2, patience=1, lr_labels=1.0)
    fitted = fit_labelcraft(log, split.train, split.meta, split.early_stop, config)
    assert fitted.best_epoch == 2
    assert [curve["nwtg"] for curve in fitted.curves] == [0.9, 0.8, 0.3, 0.2]
    assert fitted.distance > 0.1


def test_frozen_labels_have_moved_by_nothing() -> None:
    log, split, _ = planted()
    config = tiny(epochs=1, freeze=True)
    assert fit_labelcraft(log, split.train, split.meta, split.early_stop, config).distance == 0.0


def test_without_early_stop_rows_it_runs_the_configured_epochs() -> None:
    log, split, _ = planted()
    shares: list[float] = []
    fitted = fit_labelcraft(log, split.train, split.meta, None, tiny(epochs=3), on_progress=shares.append)
    assert [c["epoch"] for c in fitted.curves] == [0, 1, 2]
    assert fitted.best_epoch == 2
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_time_that_has_run_out_ends_the_fit_after_its_epoch() -> None:
    log, split, _ = planted()
    fitted = fit_labelcraft(log, split.train, split.meta, None, tiny(epochs=50, max_seconds=1e-6))
    assert len(fitted.curves) == 1


def test_the_shared_hold_out_stops_by_all_of_it() -> None:
    log, split, _ = planted()
    config = tiny(epochs=1, shared_hold_out=True)
    fitted = fit_labelcraft(log, split.train, split.meta, split.early_stop, config)
    both = np.union1d(split.meta, split.early_stop)
    found = nwtg_at_k(log.user[both], fitted.score(both), log.watch_time_s[both], config.k).weighted_mean
    assert found == pytest.approx(fitted.curves[0]["nwtg"], abs=1e-9)


def test_the_objectives_may_be_ones_own() -> None:
    log, split, _ = planted()
    fitted = fit_labelcraft(
        log,
        split.train,
        split.meta,
        None,
        tiny(epochs=1),
        objectives={"few_skips": lambda weight, slate: -(weight * (slate.feedback[..., 0] < 3)).sum(-1)},
    )
    assert -1 < fitted.curves[0]["few_skips"] < 0
    assert fitted.curves[0]["weight.few_skips"] == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "bce"},
        {"epsilon": 1e-3},
        {"bias": False, "inputs": "raw"},
        {"inputs": "log"},
        {"balance": "scaled"},
        {"balance": "gradcraft", "tau": 0.1},
        {"balance": "gradcraft", "disable": "engagement"},
        {"tau": 0.0},
        {"scaling": False},
        {"inner_optimiser": "adam", "lr_recommender": 1e-3, "weight_decay": 1.0},
    ],
)
def test_every_switch_leads_to_a_finite_fit(change: dict[str, Any]) -> None:
    log, split, _ = planted()
    fitted = fit_labelcraft(log, split.train, split.meta, None, tiny(epochs=1, lr_labels=1e-3, **change))
    parameters = [*fitted.label_maker.parameters(), *fitted.recommender.parameters()]
    assert all(bool(p.isfinite().all()) for p in parameters)


NO_ROWS: np.ndarray[Any, np.dtype[np.int64]] = np.zeros(0, np.int64)


def test_refuses_what_would_silently_learn_nothing() -> None:
    log, split, _ = planted()
    with pytest.raises(BadInput, match="no rows to train"):
        fit_labelcraft(log, NO_ROWS, split.meta, None, TINY)
    with pytest.raises(BadInput, match="no user has more than k = 2"):
        fit_labelcraft(log, split.train, split.meta[:1], None, TINY)
    with pytest.raises(BadInput, match="early-stop exposures"):
        fit_labelcraft(log, split.train, split.meta, split.early_stop[:1], TINY)
    silent = split.meta[log.explicit[split.meta] == 0]
    with pytest.raises(BadInput, match="no exposure of the meta hold-out has explicit feedback"):
        fit_labelcraft(log, split.train, silent, None, TINY)
    assert fit_labelcraft(log, split.train, silent, None, tiny(epochs=1, disable="engagement")).curves


def test_refuses_an_objective_it_does_not_know_and_says_when_it_diverged() -> None:
    log, split, _ = planted()
    with pytest.raises(ValueError, match="`disable` must be one of"):
        fit_labelcraft(log, split.train, split.meta, None, tiny(disable="retention"))
    with pytest.raises(BadInput, match="diverged in epoch 0"):
        fit_labelcraft(log, split.train, split.meta, None, tiny(freeze=True, lr_recommender=1e12, loss="bce"))


def test_users_with_too_few_candidates_are_left_out_of_the_hold_out() -> None:
    log, split, _ = planted()
    fitted = learned(freeze=True)
    scale = Scale().fit(log.watch_time_s)
    held = HoldOut(log, split.meta, fitted.prepared, watch_scale=scale, duration_scale=scale, k=K)
    counts = np.bincount(log.user[split.meta])
    assert len(held) == int((counts > K).sum())
    _, slate = held.sample(np.arange(len(held)))
    np.testing.assert_array_equal(np.sort(slate.mask.sum(-1).numpy()), np.sort(counts[counts > K]))
