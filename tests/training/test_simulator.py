"""Simulated users follow their tastes, tire, grow bored, remember, and leave."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from models.arrays import I64
from models.schema import FLAGS
from training.simulator import Audience, Feedback, Population, PopulationConfig, Sessions

USERS = np.arange(300)


@pytest.fixture(scope="module")
def population() -> Population:
    return Population.draw(PopulationConfig(users=300, videos=400), seed=0)


def slates(population: Population, seed: int = 0) -> I64:
    return population.draw_candidates(len(USERS), 40, np.random.default_rng(seed))


def best(candidates: I64, score: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> I64:
    order: I64 = np.take_along_axis(candidates, np.argsort(-score, axis=1)[:, :10], axis=1)
    return order


def watched(population: Population, sign: float) -> tuple[Sessions, Feedback]:
    """The first slate by interest, ascending or descending."""
    sessions = Audience(population, seed=1).open_sessions(USERS)
    candidates = slates(population)
    return sessions, sessions.step(best(candidates, sign * population.interest(USERS, candidates)))


def test_the_same_seeds_and_slates_give_the_same_feedback(population: Population) -> None:
    again = Population.draw(population.config, seed=0)
    for one, other in zip(watched(population, 1)[1], watched(again, 1)[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_candidate_is_drawn_once_a_slate(population: Population) -> None:
    assert all(len(set(slate)) == 40 for slate in slates(population).tolist())


def test_who_has_left_is_shown_nothing(population: Population) -> None:
    sessions, feedback = watched(population, 1)
    shown = feedback.is_shown
    assert shown[:, 0].all()
    assert not (shown[:, 1:] & ~shown[:, :-1]).any()
    assert (~sessions.is_open[~shown[:, -1]]).all()
    assert not feedback.watch_time_s[~shown].any()
    assert not feedback.flags[~shown].any()
    np.testing.assert_allclose(feedback.watch_time_s.sum(axis=1), sessions.watch_time_s)


def test_exposures_follow_each_other(population: Population) -> None:
    _, feedback = watched(population, 1)
    ends_s = feedback.begins_s + feedback.watch_time_s
    assert (feedback.begins_s[:, 1:] > ends_s[:, :-1])[feedback.is_shown[:, 1:]].all()


def test_slates_of_interest_are_watched_longer_hated_less_and_lift_the_mood(population: Population) -> None:
    (good, liked), (bad, disliked) = watched(population, 1), watched(population, -1)
    assert good.watch_time_s.mean() > 5 * bad.watch_time_s.mean()
    assert good.mood.mean() > 0 > bad.mood.mean()
    assert good.draw_gaps_s().mean() < bad.draw_gaps_s().mean()
    hate, like = FLAGS.index("hate"), FLAGS.index("like")
    assert liked.flags[..., hate].sum() < disliked.flags[..., hate].sum()
    assert liked.flags[..., like].sum() > disliked.flags[..., like].sum()


def test_flags_have_their_rates_over_random_pairs(population: Population) -> None:
    audience = Audience(population, seed=2)
    flags = [
        audience.open_sessions(USERS).step(np.tile(np.random.default_rng(n).permutation(400)[:1], (300, 1)))
        for n in range(30)
    ]
    share = np.mean([one.flags[:, 0, FLAGS.index("like")] for one in flags])
    assert share == pytest.approx(population.config.rates["like"], abs=0.012)


def test_repetition_bores_and_nothing_else_does(population: Population) -> None:
    sessions = Audience(population, seed=1).open_sessions(USERS)
    every = np.tile(np.arange(400), (300, 1))
    before = sessions.interest(every)
    shown = np.zeros((300, 1), np.int64)
    sessions.step(shown)
    loss = np.log(before / (1 - before)) - np.log((after := sessions.interest(every)) / (1 - after))
    inside = (before > 0.02) & (before < 0.98) & (after > 0.02)
    same_tag = population.tag == population.tag[0]
    same_author = population.author == population.author[0]
    assert loss[:, ~same_tag][inside[:, ~same_tag]].max() < 0.5  # minutes of the session tire a little
    assert loss[:, same_tag & ~same_author][inside[:, same_tag & ~same_author]].min() > 0.5
    assert loss[:, same_author][inside[:, same_author]].min() > 1.0


def test_a_hate_is_remembered_in_the_next_session(population: Population) -> None:
    audience = Audience(population, seed=1)
    every = np.tile(np.arange(400), (300, 1))
    rested = audience.open_sessions(USERS).interest(every)
    worst = every[0][np.argsort(population.interest(USERS, every), axis=1)[:, :10]]
    feedback = audience.open_sessions(USERS).step(worst)
    who, position = feedback.flags[..., FLAGS.index("hate")].nonzero()
    assert len(who)
    hated = np.zeros((300, population.config.authors), bool)
    hated[who, population.author[worst[who, position]]] = True
    of_author = hated[:, population.author]
    later = audience.open_sessions(USERS).interest(every)
    lower = later < rested
    assert lower[of_author & (rested > 0.011)].all()
    new = np.ones_like(of_author)
    np.put_along_axis(new, worst, False, axis=1)
    np.testing.assert_allclose(later[new & ~of_author], rested[new & ~of_author])


def test_it_needs_neither_torch_nor_polars() -> None:
    code = "import sys, training.simulator; print({'torch', 'polars'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
