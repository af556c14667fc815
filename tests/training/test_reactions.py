"""What one more exposure of an author does to its candidates: as a probe, and as a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.arrays import F32
from models.features import FEEDBACK_COLUMNS
from models.vocabulary import FIRST
from tests.training._builders import Spread, encoder_of, log_of, ranker_request
from training.data import Interactions
from training.encoders import RankerInputs, inputs_for, with_step
from training.evaluation.reactions import reactions
from training.labels import Scale
from training.rankers import TwoObjectiveRanker
from training.train.counterfactual import MARGIN, Counterfactuals
from training.train.rankers import TrainerConfig, fit_ranker

WATCHED, DURATION, HATE = (FEEDBACK_COLUMNS.index(name) for name in ("watch_time_s", "duration_s", "hate"))
USERS, EACH = 20, 6


@pytest.fixture(scope="module")
def log() -> Interactions:
    """Two authors of three videos each."""
    made = log_of(np.repeat(np.arange(USERS), EACH).tolist(), list(range(USERS * EACH)))
    ids = made.ids.copy()
    ids[:, 0] = FIRST + np.arange(len(made)) % 6
    ids[:, 1] = FIRST + (ids[:, 0] - FIRST) % 2
    return replace(made, ids=ids)


def similar(x: RankerInputs) -> Tensor:
    """1 where a step has the candidate's author, `[B, L]`."""
    return (x.sequence_ids[..., 1] == x.candidate_ids[:, :1, 1]).float()


def watched(x: RankerInputs) -> F32:
    """A ranker as one would wish for: seconds of the author's steps, less 100 for each hate."""
    seconds = x.sequence_feedback[..., WATCHED] - 3.0 - 100.0 * x.sequence_feedback[..., HATE]
    out: F32 = (similar(x) * seconds).sum(dim=1).numpy()
    return out


def test_a_ranker_that_adds_up_seconds_loses_by_skips_and_hates_and_gains_by_whole_views(
    log: Interactions,
) -> None:
    found = reactions(watched, log, np.arange(len(log)), 50)
    assert found["gains_after_hate"] == found["gains_after_skip"] == 0.0
    assert found["gains_after_whole_view"] > 0.5


def test_a_ranker_that_counts_exposures_gains_by_every_one(log: Interactions) -> None:
    found = reactions(lambda x: similar(x).sum(dim=1).numpy(), log, np.arange(len(log)), 50)
    assert set(found.values()) == {1.0}


def test_a_log_without_known_authors_has_no_reactions(log: Interactions) -> None:
    ids = log.ids.copy()
    ids[:, 1] = FIRST - 1
    assert reactions(watched, replace(log, ids=ids), np.arange(len(log)), 50) == {}


def test_the_added_step_is_the_newest_and_in_the_tab_of_the_request(log: Interactions) -> None:
    x = ranker_request(3, 1, 5)
    feedback = np.ones((3, len(FEEDBACK_COLUMNS)), np.float32)
    longer = with_step(x, log.ids[:3], feedback, torch.full((3,), 1e9))
    assert (longer.sequence_age_s[:, -1] == x.sequence_age_s.amin(dim=1)).all()
    assert (longer.sequence_ids[:, -1, 3] == x.context_ids[:, 0]).all()
    assert (longer.sequence_ids[:, -1, :3] == torch.from_numpy(log.ids[:3, :3])).all()
    torch.testing.assert_close(longer.sequence_ids[:, :-1], x.sequence_ids)


def loss_of(of_share: Callable[[Tensor], Tensor], log: Interactions, aversion: float = 9.0) -> float:
    """The loss of a ranker that adds up a function of the watched share of the author's steps."""

    def appeal(x: RankerInputs) -> Tensor:
        share = x.sequence_feedback[..., WATCHED] / x.sequence_feedback[..., DURATION].clamp(min=0.1)
        hate = aversion * x.sequence_feedback[..., HATE]
        return (similar(x) * (of_share(share) - hate)).sum(dim=1, keepdim=True)

    rows = np.arange(len(log))
    return float(Counterfactuals(log, rows).loss(appeal, inputs_for(log, rows, 50), np.random.default_rng(0)))


def test_the_loss_is_0_for_who_falls_by_skips_and_gains_by_views_and_not_for_the_opposite(
    log: Interactions,
) -> None:
    assert loss_of(lambda share: share - 0.5, log) == 0.0
    assert loss_of(lambda share: 0.5 - share, log) > 2 * MARGIN


def test_a_ranker_that_rises_little_by_a_whole_view_has_a_loss(log: Interactions) -> None:
    assert loss_of(lambda share: 0.3 * (share - 0.5), log) > 0


def test_a_ranker_whose_hates_do_not_outweigh_a_whole_view_has_a_loss(log: Interactions) -> None:
    assert loss_of(lambda share: share - 0.5, log, aversion=0.1) > 0


@pytest.mark.parametrize(("least", "most"), [(0.5, 0.8), (1.1, 3.0)])
def test_a_ranker_that_takes_more_watched_for_less_has_a_loss(
    log: Interactions, least: float, most: float
) -> None:
    """Skips fall and whole views rise with it; what lies between, or a replay, falls back to little."""
    assert loss_of(lambda share: torch.where((share > least) & (share < most), 0.2, share - 0.25), log) > 0


def test_a_ranker_is_fitted_on_a_log_without_known_authors(log: Interactions) -> None:
    ids = log.ids.copy()
    ids[:, 1] = FIRST - 1
    unknown, encoder = replace(log, ids=ids), encoder_of()
    head = Spread(encoder.config.width).fit_tables(log, seed=0)
    ranker = TwoObjectiveRanker(encoder, head, Scale().fit(log.watch_time_s))
    config, label = TrainerConfig(epochs=1, counterfactual=0.5), np.zeros(len(log), np.float32)
    epochs = fit_ranker(ranker, unknown, np.arange(len(log)), label, config, seed=0)
    assert np.isfinite(epochs[0].watch_loss)
