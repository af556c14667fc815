"""The encoder on a log whose truth is known: what a skip means of other videos, and of none in a hurry."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from models.arrays import I64
from models.errors import BadInput
from models.features import HISTORY_LENGTH
from training.data import Interactions, SyntheticConfig, simulate_log
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig, RankerInputs, inputs_for
from training.evaluation.counterfactual_probe import KINDS, NEWEST, make_probes, moved
from training.watch_time import VR, VRConfig

pytestmark = pytest.mark.slow

EVERYTHING: dict[str, Any] = {"tokens": "full", "interests": "both", "gate": True}
SIMULATED = SyntheticConfig(
    users=200, videos=200, exposures=10_000, tags=6, authors=20, policy=0.0, latent=3, interest_scale=4.0
)
STEPS = 25


class Fitted(NamedTuple):
    log: Interactions
    encoder: FeedbackEncoder
    head: VR

    def seconds(self, x: RankerInputs) -> torch.Tensor:
        """`[B, N]`"""
        with torch.no_grad():
            return self.head.seconds(*self.encoder(x))


@pytest.fixture(scope="module", params=[{}, EVERYTHING], ids=["default", "everything"])
def fitted(request: pytest.FixtureRequest) -> Fitted:
    """A quick fit on the first nine tenths of the simulated log's time."""
    simulated = simulate_log(SIMULATED, seed=5)
    dataset = simulated.dataset()
    vocabulary = dataset.vocabulary(int(simulated.timestamp_ms.max()) + 1, 1)
    log = dataset.interactions(vocabulary)
    torch.manual_seed(0)
    encoder = FeedbackEncoder(
        (
            vocabulary.size("video_id"),
            vocabulary.size("author_id"),
            vocabulary.size("tag"),
            vocabulary.size("tab"),
        ),
        len(dataset.profile_numbers),
        tuple(vocabulary.size(f"profile.{name}") for name in dataset.profile_categories),
        FeedbackEncoderConfig(width=16, token=16, heads=2, hidden=32, dropout=0.0, **request.param),
    )
    head = VR(16, VRConfig(hidden=0)).fit_tables(log, seed=0)
    rows: I64 = np.flatnonzero(log.timestamp_ms < np.quantile(log.timestamp_ms, 0.9))
    statistics = torch.from_numpy(encoder.fit_tables(log, rows))
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=5e-3)
    random, first = np.random.default_rng(0), log.first_row()
    for _ in range(2):
        for pick in np.array_split(random.permutation(len(rows)), len(rows) // 256):
            state, duration = encoder(inputs_for(log, rows[pick], STEPS, first), statistics[pick][:, None])
            watched = torch.from_numpy(log.watch_time_s[rows[pick]])
            loss = head.loss(state[:, 0], duration[:, 0], watched)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimiser.step()
    return Fitted(log, encoder.eval(), head)


def test_a_view_that_becomes_a_skip_lowers_what_is_similar_and_barely_what_is_not(fitted: Fitted) -> None:
    log = fitted.log
    rows: I64 = np.flatnonzero(np.arange(len(log)) - log.first_row() >= STEPS)
    found = moved(lambda x: fitted.seconds(x).numpy(), make_probes(log, rows, STEPS, most=150, seed=1))
    assert found["author"].requests > 50
    assert found["author"].change < -2.0
    assert abs(found["unrelated"].change) < abs(found["author"].change) / 5
    assert found["similar"].ci[1] < 0
    assert found["similar"].fell > 0.7


def test_a_probe_changes_one_whole_view_and_nothing_else(fitted: Fitted) -> None:
    log = fitted.log
    rows: I64 = np.flatnonzero(np.arange(len(log)) - log.first_row() >= STEPS)
    before, after, there = vars(make_probes(log, rows, STEPS, most=40)).values()
    for name in set(RankerInputs._fields) - {"sequence_feedback"}:
        assert torch.equal(getattr(before, name), getattr(after, name))
    was, became = before.sequence_feedback, after.sequence_feedback
    assert torch.equal(was[..., 1], became[..., 1])
    changed = (was != became).any(-1)
    assert (changed.sum(1) == 1).all()
    assert not changed[:, -NEWEST:].any()
    assert (was[changed][:, 0] >= was[changed][:, 1]).all()
    assert (became[changed][:, 0] < became[changed][:, 1].clamp(max=3.0)).all()
    assert (became[changed][:, 2:] == 0).all()
    step = before.sequence_ids[changed]
    author, tag, unrelated = before.candidate_ids.unbind(1)
    of_author, of_tag, of_neither = torch.from_numpy(there).unbind(1)
    assert of_neither.all()
    assert torch.equal(author[of_author, 1], step[of_author, 1])
    assert torch.equal(tag[of_tag, 2], step[of_tag, 2])
    assert (tag[of_tag, 1] != step[of_tag, 1]).all()
    assert ((unrelated[:, 1] != step[:, 1]) & (unrelated[:, 2] != step[:, 2])).all()
    seen = before.sequence_ids[:, None, :, 0] == before.candidate_ids[..., :1]
    assert not seen[torch.from_numpy(there)].any()


def test_a_blind_encoder_is_not_moved_by_what_was_done(fitted: Fitted) -> None:
    log, encoder = fitted.log, fitted.encoder
    rows: I64 = np.flatnonzero(np.arange(len(log)) - log.first_row() >= STEPS)
    sighted = encoder.config
    encoder.config = sighted.model_copy(update={"feedback": False})
    found = moved(lambda x: fitted.seconds(x).numpy(), make_probes(log, rows, STEPS, most=40))
    encoder.config = sighted
    assert {kind: effect.change for kind, effect in found.items()} == dict.fromkeys([*KINDS, "similar"], 0.0)


def test_where_nothing_is_similar_there_is_nothing_to_probe(fitted: Fitted) -> None:
    log = fitted.log
    rows: I64 = np.flatnonzero(np.arange(len(log)) == log.first_row())
    with pytest.raises(BadInput, match="nothing to probe"):
        make_probes(log, rows, STEPS)


def test_nothing_before_an_event_knows_of_it(fitted: Fitted) -> None:
    """Whatever a row becomes, the user's predictions up to and including its own stay; the later ones move
    for as long as it is among the newest steps or in the history before them."""
    log = fitted.log
    first = log.first_row()
    user = int(np.bincount(log.user).argmax())
    rows: I64 = np.flatnonzero(log.user == user)[: 40 + STEPS + HISTORY_LENGTH]
    event = int(rows[30])
    feedback = log.feedback.copy()
    feedback[event] = [500.0, feedback[event, 1], 1, 1, 1, 1, 1, 1]
    other = Interactions(**{**vars(log), "feedback": feedback})

    def seconds(changed: Interactions) -> torch.Tensor:
        return fitted.seconds(inputs_for(changed, rows, STEPS, first))[:, 0]

    was, became = seconds(log), seconds(other)
    knows = (rows > event) & (rows <= event + STEPS + HISTORY_LENGTH)
    torch.testing.assert_close(became[~knows], was[~knows], atol=0, rtol=0)
    assert ((became - was).abs()[knows] > 0).all()
