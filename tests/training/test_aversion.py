"""A hate lowers what it touches, for any weights."""

from __future__ import annotations

import math

import pytest
import torch

from models.features import FEEDBACK_COLUMNS
from models.vocabulary import FIRST
from tests.training._builders import Spread, encoder_of, log_of, ranker_request
from training.encoders import RankerInputs
from training.labels import Scale
from training.rankers import MultiObjectiveRanker, Ranker, RankerOutputs, TwoObjectiveRanker

HATE, WATCHED, DURATION = (FEEDBACK_COLUMNS.index(n) for n in ("hate", "watch_time_s", "duration_s"))
LOG = log_of([0, 0, 1, 1, 1], [1, 2, 1, 2, 3])


@pytest.fixture(params=range(5))
def ranker(request: pytest.FixtureRequest) -> Ranker:
    """With weights far from any that would be learned."""
    kind = MultiObjectiveRanker if request.param % 2 else TwoObjectiveRanker
    encoder, scale = encoder_of(), Scale().fit(LOG.watch_time_s)
    made = kind(encoder, Spread(encoder.config.width).fit_tables(LOG, seed=0), scale)
    torch.manual_seed(request.param)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made.eval()


def hated(x: RankerInputs, author: int, tag: int) -> RankerInputs:
    """The requests after one more exposure: 40 of 50 seconds watched, then a hate."""
    users = len(x.context_ids)
    step = torch.tensor([FIRST, author, tag, FIRST]).expand(users, 1, 4)
    feedback = torch.zeros(users, 1, len(FEEDBACK_COLUMNS))
    feedback[..., WATCHED], feedback[..., DURATION], feedback[..., HATE] = 40.0, 50.0, 1.0
    return x._replace(
        sequence_ids=torch.cat([x.sequence_ids, step], dim=1),
        sequence_feedback=torch.cat([x.sequence_feedback, feedback], dim=1),
        sequence_age_s=torch.cat([x.sequence_age_s, torch.ones(users, 1)], dim=1),
    )


def answers(ranker: Ranker, x: RankerInputs) -> RankerOutputs:
    with torch.no_grad():
        return ranker.serve(x)


def test_no_candidate_of_the_hated_author_or_tag_gains(ranker: Ranker) -> None:
    x = ranker_request(4, 6, 5)
    author, tag = x.candidate_ids[0, 0, 1:].tolist()
    before, after = answers(ranker, x), answers(ranker, hated(x, author, tag))
    touched = (x.candidate_ids[..., 1] == author) | (x.candidate_ids[..., 2] == tag)
    for name in ("watch_time_s", "expected_watch_time_s"):
        fell = getattr(after, name) < getattr(before, name)
        assert fell[touched].all()
    assert (after.quantiles_s <= before.quantiles_s)[touched].all()
    skip, rest = after.states - before.states, slice(1, None)
    assert (skip[..., 0] >= 0)[touched].all()
    assert (skip[..., rest] <= 0)[touched].all()
    sign = torch.tensor([-1.0 if name in ("skip", "hate") else 1.0 for name in ranker.objectives])
    assert (((after.objectives - before.objectives) * sign)[touched] <= 0).all()


def test_the_author_falls_further_than_anything_else(ranker: Ranker) -> None:
    x = ranker_request(1, 3, 5)
    ids = x.candidate_ids.clone()
    ids[0, :, 1] = torch.tensor([2, 3, 4])
    ids[0, :, 2] = torch.tensor([2, 2, 3])
    x = x._replace(candidate_ids=ids)
    before, after = answers(ranker, x).watch_time_s[0], answers(ranker, hated(x, 2, 2)).watch_time_s[0]
    kept = after / before
    assert kept[0] < kept[1] < kept[2] < 1.0
    torch.testing.assert_close(kept, torch.exp(-torch.tensor([3.35, 0.35, 0.05]) * math.log(2)))


def test_what_was_watched_before_a_hate_is_no_interest(ranker: Ranker) -> None:
    """Seconds, flags and length of a hated exposure change nothing."""
    x = hated(ranker_request(2, 3, 5), 2, 2)
    feedback = x.sequence_feedback.clone()
    feedback[:, -1, :HATE] = torch.rand(2, HATE) * 30
    other = answers(ranker, x._replace(sequence_feedback=feedback))
    for got, want in zip(other, answers(ranker, x), strict=True):
        torch.testing.assert_close(got, want, atol=0, rtol=0)
