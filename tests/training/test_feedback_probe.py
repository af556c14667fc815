"""The encoder on a world whose truth is known: what a skip says of other videos, and of none in a hurry."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from training.data import Interactions, SyntheticConfig, synthetic_world
from training.data._interactions import I64
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig, RankerInputs, inputs_for
from training.watch_time import VR, VRConfig

EVERYTHING: dict[str, Any] = {"tokens": "full", "interests": "both", "gate": True}
WORLD = SyntheticConfig(
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
    """A quick fit on the first nine tenths of the planted world's time."""
    world = synthetic_world(WORLD, seed=5)
    dataset = world.dataset()
    vocabulary = dataset.vocabulary(int(world.timestamp_ms.max()) + 1, 1)
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


def probes(log: Interactions, count: int = 150) -> tuple[RankerInputs, RankerInputs]:
    """Requests of two candidates, and the same requests after one step has become a skip.

    The step was watched to its end and is none of the newest. The first candidate is of its author, the
    second of another tag; both last 40 s.
    """
    random = np.random.default_rng(1)
    video, author, tag = log.ids[:, 0], log.ids[:, 1], log.ids[:, 2]
    rows: I64 = np.flatnonzero(np.arange(len(log)) - log.first_row() >= STEPS)
    x = inputs_for(log, np.sort(random.choice(rows, count, replace=False)), STEPS)
    candidate = torch.zeros(count, 2, 3, dtype=torch.int64)
    skipped = x.sequence_feedback.clone()
    kept = []
    for i in range(count):
        whole = x.sequence_feedback[i, :-5, 0] >= x.sequence_feedback[i, :-5, 1]
        steps = torch.nonzero(whole)[:, 0].tolist()
        if not steps:
            continue
        step = int(random.choice(steps))
        _, by, about, _ = x.sequence_ids[i, step].tolist()
        seen = x.sequence_ids[i, :, 0].tolist()
        similar = np.flatnonzero((author == by) & ~np.isin(video, seen))
        unrelated = np.flatnonzero((tag != about) & ~np.isin(video, seen))
        if not len(similar):
            continue
        for place, found in enumerate((similar, unrelated)):
            candidate[i, place] = torch.from_numpy(log.ids[random.choice(found), :3])
        skipped[i, step, 0] = 1.0
        skipped[i, step, 2:] = 0.0
        kept.append(i)
    x = x._replace(candidate_ids=candidate, candidate_duration_s=torch.full((count, 2), 40.0))
    before = RankerInputs(*(t[kept] for t in x))
    return before, before._replace(sequence_feedback=skipped[kept])


def test_a_view_that_becomes_a_skip_lowers_what_is_similar_and_barely_what_is_not(fitted: Fitted) -> None:
    before, after = probes(fitted.log)
    assert len(before.sequence_ids) > 50
    change = (fitted.seconds(after) - fitted.seconds(before)).mean(dim=0)
    similar, unrelated = change.tolist()
    assert similar < -2.0
    assert abs(unrelated) < abs(similar) / 5


def test_nothing_before_an_event_knows_of_it(fitted: Fitted) -> None:
    """Whatever a row becomes, the user's predictions up to and including its own stay; the later ones move
    for as long as it is among the newest steps."""
    log = fitted.log
    first = log.first_row()
    user = int(np.bincount(log.user).argmax())
    rows: I64 = np.flatnonzero(log.user == user)[:60]
    event = int(rows[30])
    feedback = log.feedback.copy()
    feedback[event] = [500.0, feedback[event, 1], 1, 1, 1, 1, 1, 1]
    other = Interactions(**{**vars(log), "feedback": feedback})

    def seconds(of: Interactions) -> torch.Tensor:
        return fitted.seconds(inputs_for(of, rows, STEPS, first))[:, 0]

    was, became = seconds(log), seconds(other)
    knows = (rows > event) & (rows <= event + STEPS)
    torch.testing.assert_close(became[~knows], was[~knows], atol=0, rtol=0)
    assert ((became - was).abs()[knows] > 0).all()
