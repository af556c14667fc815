"""A user's rows of a window as candidates of one request: what `/rerank` orders."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from models.arrays import I64
from models.metrics import gauc
from tests.training._builders import log_of
from training.data import Interactions
from training.encoders import HistoryAt, RankerInputs, inputs_for
from training.evaluation.predict import run_torch
from training.rankers import Ranker, RankerOutputs

HISTORIES: tuple[HistoryAt, HistoryAt] = ("row", "request")
LIKE = 2
"""Its column of the feedback."""


class Habit:
    """Predicts what its user is used to: the share of likes among the steps it is shown, and nothing else."""

    objectives = ("like",)

    def __call__(self, *inputs: Tensor) -> RankerOutputs:
        feedback_BL8, candidate_ids_BN3 = inputs[1], inputs[3]
        steps_B = (feedback_BL8[..., 1] > 0).sum(dim=1)
        share_B = (feedback_BL8[..., LIKE].sum(dim=1) + 0.5) / (steps_B + 1.0)
        share_BN = share_B[:, None].expand(candidate_ids_BN3.shape[:2])
        one_BN1 = share_BN[..., None]
        return RankerOutputs(
            watch_time_s=share_BN * 10.0,
            watch_ratio=share_BN,
            objectives=one_BN1,
            anchor_weights=torch.ones_like(one_BN1),
            anchor_ratio=one_BN1,
            quantiles_s=one_BN1.expand(-1, -1, 3),
            expected_watch_time_s=share_BN,
            expected_watch_time=share_BN,
            states=one_BN1.expand(-1, -1, 3),
        )

    def eval(self) -> None:
        """Nothing to switch."""


def users_who_like_by_chance(users: int = 800, each: int = 4) -> Interactions:
    """Users differ in how much they like; which of their videos they like is drawn."""
    log = log_of(np.repeat(np.arange(users), each).tolist(), list(range(users * each)))
    random = np.random.default_rng(0)
    feedback = log.feedback.copy()
    feedback[:, LIKE] = random.random(len(log)) < random.beta(1, 4, users)[log.user]
    return replace(log, feedback=feedback)


def test_row_by_row_a_habit_orders_its_user_worse_than_chance_and_in_one_request_it_does_not() -> None:
    log = users_who_like_by_chance()
    rows: I64 = np.arange(len(log), dtype=np.int64)
    within: dict[HistoryAt, float | None] = {}
    for history_at in HISTORIES:
        score = run_torch(cast(Ranker, Habit()), log, rows, 10, history_at=history_at).objectives["like"]
        within[history_at] = gauc(log.user, log.feedback[:, LIKE], score)
    assert within["request"] == 0.5  # all candidates of a request meet one history, so they tie
    by_row = within["row"]
    assert by_row is not None
    assert by_row < 0.35


def test_rows_in_one_request_know_nothing_that_came_after_the_first_of_them() -> None:
    log = users_who_like_by_chance()
    rows = np.flatnonzero(np.arange(len(log)) - log.first_row() >= 2)
    changed = log.feedback.copy()
    changed[rows] = changed[rows[::-1]]
    kept, other = (_asked_together(one, rows) for one in (log, replace(log, feedback=changed)))
    for name in ("sequence_ids", "sequence_feedback", "sequence_age_s", "profile"):
        assert torch.equal(getattr(kept, name), getattr(other, name)), name


def test_rows_in_one_request_are_still_asked_for_in_their_own_tab() -> None:
    log = users_who_like_by_chance()
    rows: I64 = np.arange(len(log), dtype=np.int64)
    asked = _asked_together(log, rows)
    assert asked.context_ids[:, 0].tolist() == log.tab.tolist()
    assert asked.candidate_ids[:, 0].tolist() == log.ids[:, :3].tolist()


def _asked_together(log: Interactions, rows: I64) -> RankerInputs:
    return inputs_for(log, rows, 10, history_rows=log.first_among(rows))
