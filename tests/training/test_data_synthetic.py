"""The simulated log follows its own ground truth."""

from __future__ import annotations

import numpy as np
import pytest

from models.schema import FLAGS
from training.data import SyntheticConfig, SyntheticLog, planted_utility, simulate_log
from training.simulator import COMPLETE, PART, REPLAY, SKIP


@pytest.fixture(scope="module")
def simulated() -> SyntheticLog:
    return simulate_log(seed=7)


def correlation(x: np.ndarray[tuple[int], np.dtype[np.float64]], y: object) -> float:
    return float(np.corrcoef(x, np.asarray(y, dtype=np.float64))[0, 1])


@pytest.mark.parametrize("users", [3, 600])
def test_its_rows_are_the_rows_of_its_interactions(users: int) -> None:
    simulated = simulate_log(SyntheticConfig(users=users, videos=200, exposures=250), seed=3)
    data = simulated.dataset()
    rows = data.interactions(data.vocabulary())
    np.testing.assert_array_equal(rows.timestamp_ms, simulated.timestamp_ms)
    np.testing.assert_array_equal(rows.watch_time_s, simulated.watch_time_s.astype(np.float32))
    np.testing.assert_array_equal(rows.feedback[:, 2:], simulated.flags)
    assert [rows.user_ids[u] for u in rows.user] == [f"u{u:0{len(str(users - 1))}d}" for u in simulated.user]


def test_it_has_as_many_rows_as_asked_and_shows_no_user_a_video_twice(simulated: SyntheticLog) -> None:
    assert len(simulated) == simulated.config.exposures
    assert len(set(zip(simulated.user.tolist(), simulated.video.tolist(), strict=True))) == len(simulated)


def test_a_users_clock_only_goes_forward_and_stays_within_the_days(simulated: SyntheticLog) -> None:
    same_user = simulated.user[1:] == simulated.user[:-1]
    assert (np.diff(simulated.timestamp_ms)[same_user] > 0).all()
    assert simulated.dataset().info.days[0] == simulated.config.start
    assert len(simulated.dataset().info.days) == simulated.config.days


def test_interest_per_row_is_the_interest_of_the_pair(simulated: SyntheticLog) -> None:
    np.testing.assert_allclose(simulated.all_interest()[simulated.user, simulated.video], simulated.interest)
    assert 0 < simulated.interest.min() < simulated.interest.max() < 1


def test_duration_is_a_confounder_it_moves_exposure_and_watch_time_but_not_interest(
    simulated: SyntheticLog,
) -> None:
    log_duration = np.log(simulated.video_duration_s)
    assert correlation(log_duration, np.bincount(simulated.video, minlength=800)) > 0.3
    assert correlation(np.log(simulated.duration_s), simulated.watch_time_s) > 0.2
    assert abs(correlation(log_duration, simulated.all_interest().mean(axis=0))) < 0.15


def test_watch_time_is_the_counterfactual_cut_off_by_the_video(simulated: SyntheticLog) -> None:
    part, whole = simulated.state == PART, simulated.state == COMPLETE
    np.testing.assert_allclose(simulated.watch_time_s[part], simulated.counterfactual_s[part], atol=1e-3)
    np.testing.assert_allclose(simulated.watch_time_s[whole], simulated.duration_s[whole], atol=1e-3)
    assert (simulated.counterfactual_s[whole] >= simulated.duration_s[whole]).all()


def test_the_counterfactual_rises_with_interest_as_written(simulated: SyntheticLog) -> None:
    expected = simulated.config.watch_scale_s / -np.log(simulated.interest) - 1
    ratio = np.log(simulated.counterfactual_s / np.maximum(expected, 0.1))
    assert abs(float(np.median(ratio))) < 0.02


def test_the_watch_ratio_has_four_peaks(simulated: SyntheticLog) -> None:
    ratio = simulated.watch_time_s / simulated.duration_s
    density, edges = np.histogram(ratio, bins=np.arange(-0.05, 3.6, 0.1))
    at = {peak: int(density[np.searchsorted(edges, peak) - 1]) for peak in (0.0, 1.0, 2.0, 3.0)}
    valleys = {v: int(density[np.searchsorted(edges, v) - 1]) for v in (0.8, 1.5, 2.5)}
    assert at[0.0] > valleys[0.8] < at[1.0]
    assert at[1.0] > valleys[1.5] < at[2.0]
    assert at[2.0] > valleys[2.5] < at[3.0]


def test_a_skip_shows_interest_unless_the_session_is_hurried(simulated: SyntheticLog) -> None:
    """How much less interesting the skipped are than the rest, within each kind of session."""
    skip = simulated.state == SKIP
    gap = {
        hurried: float(
            simulated.interest[~skip & (simulated.hurried == hurried)].mean()
            - simulated.interest[skip & (simulated.hurried == hurried)].mean()
        )
        for hurried in (False, True)
    }
    assert gap[False] > 2 * gap[True]
    assert skip[simulated.hurried].mean() > 1.5 * skip[~simulated.hurried].mean()


@pytest.mark.parametrize("name", FLAGS)
def test_explicit_feedback_is_as_rare_as_configured(simulated: SyntheticLog, name: str) -> None:
    rate = simulated.config.rates[name]
    found = simulated.flags[:, FLAGS.index(name)].mean()
    assert abs(found - rate) < 4 * np.sqrt(rate / len(simulated))


def test_likes_follow_interest_and_hate_its_absence(simulated: SyntheticLog) -> None:
    liked, hated = (simulated.flags[:, FLAGS.index(name)] for name in ("like", "hate"))
    assert simulated.interest[liked].mean() > simulated.interest.mean() + 0.1
    assert simulated.interest[hated].mean() < simulated.interest.mean() - 0.1


def test_the_planted_utility_is_not_any_single_rule(simulated: SyntheticLog) -> None:
    """By hand for three rows, and no ranking by one signal alone agrees with it."""
    got = planted_utility(
        np.array([0.0, 20.0, 40.0]), np.array([10.0, 40.0, 20.0]), np.array([True, False, False])
    )
    want = [0.3, 0.45 * (1 - np.exp(-1)) + 0.125, 0.45 * (1 - np.exp(-2)) + 0.25]
    np.testing.assert_allclose(got, want)
    assert 0 <= simulated.utility.min() <= simulated.utility.max() <= 1
    for rule in (
        simulated.watch_time_s,
        simulated.watch_time_s / simulated.duration_s,
        simulated.state == COMPLETE,
    ):
        assert correlation(simulated.utility, rule) < 0.97


def test_flipped_rows_behave_against_interest() -> None:
    simulated = simulate_log(SyntheticConfig(flip_fraction=0.2), seed=2)
    assert abs(simulated.flipped.mean() - 0.2) < 0.02
    assert (
        correlation(simulated.interest[simulated.flipped], simulated.state[simulated.flipped] == SKIP) > 0.1
    )
    assert (
        correlation(simulated.interest[~simulated.flipped], simulated.state[~simulated.flipped] == SKIP)
        < -0.1
    )


def test_the_profile_category_depends_on_interest_and_the_number_does_not(simulated: SyntheticLog) -> None:
    mean_by_segment = np.array(
        [simulated.all_interest()[simulated.segment == s].mean(axis=0) for s in range(4)]
    )
    spread = mean_by_segment.std(axis=0).mean()
    shuffled = np.random.default_rng(0).permutation(simulated.segment)
    by_chance = np.array([simulated.all_interest()[shuffled == s].mean(axis=0) for s in range(4)])
    assert spread > 3 * by_chance.std(axis=0).mean()
    assert abs(correlation(simulated.age_days, simulated.all_interest().mean(axis=1))) < 0.15


def test_replays_come_from_the_most_interested(simulated: SyntheticLog) -> None:
    assert (
        simulated.interest[simulated.state == REPLAY].mean()
        > simulated.interest[simulated.state == PART].mean()
    )


def test_a_catalogue_too_small_for_its_exposures_is_refused() -> None:
    with pytest.raises(ValueError, match="at most users"):
        simulate_log(SyntheticConfig(users=2, videos=10, exposures=11))
