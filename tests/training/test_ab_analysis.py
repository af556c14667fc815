"""The analysis of an experiment counts users as planned, and finds what was planted."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from models.errors import BadInput
from models.schema import FLAGS
from training.ab_tests import METRICS, Analysis, analyse, arm_mean, user_sums

HOUR, DAY = 3_600_000, 86_400_000
START = 100 * DAY
PLANNED = Analysis({"A": 1.0, "B": 1.0}, START, START + 5 * DAY, smallest_effect=0.1)


def exposures(rows: list[tuple[str, int, float, float]]) -> pl.DataFrame:
    names = ["user_id", "timestamp_ms", "watch_time_s", "duration_s"]
    frame = pl.DataFrame(rows, names, orient="row")
    return frame.with_columns(pl.lit(False).alias(flag) for flag in FLAGS)


def planted(users: int = 600, effect: float = 0.3) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Users with habits, five days before and after the start; every second one is in arm B and watches
    longer from the start on."""
    random = np.random.default_rng(0)
    habit, rows = random.lognormal(2.0, 0.5, users), []
    for user in range(users):
        for day in range(95, 105):
            longer = 1 + effect * (user % 2 == 1 and day >= 100)
            for hour in (10, 20):
                moment = day * DAY + hour * HOUR
                rows.append((f"u{user}", moment, habit[user] * longer * random.gamma(2.0, 0.5), 60.0))
    assigned = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in range(users)],
            "arm": ["AB"[user % 2] for user in range(users)],
            "first_ms": START + HOUR,
        }
    )
    return exposures(rows), assigned


# --- sums of a user


def test_a_session_ends_with_a_pause_of_more_than_half_an_hour() -> None:
    minutes = [0, 10, 40, 71, 3000]  # pauses of 10, 30, 31 minutes and of two days
    (row,) = user_sums(exposures([("u", m * 60_000, 5.0, 10.0) for m in minutes])).to_dicts()
    assert sum(b - a > 30 for a, b in pairwise(minutes)) == 2
    assert row["sessions"] == 3
    assert row["days_active"] == 2
    assert row["watch_time_s"] == 25.0


def test_a_skip_is_short_of_three_seconds_and_of_the_duration() -> None:
    rows = [("u", 1, 2.9, 10.0), ("u", 2, 3.0, 10.0), ("u", 3, 2.0, 2.0), ("u", 4, 1.9, 2.0)]
    assert user_sums(exposures(rows))["skips"].to_list() == [2.0]


def test_users_are_counted_apart_whatever_the_order_of_the_log() -> None:
    rows = [(user, minute * 60_000, 1.0, 9.0) for minute in (100, 0, 20) for user in ("a", "b")]
    assert user_sums(exposures(rows))["sessions"].to_list() == [2.0, 2.0]


# --- the comparison


def test_a_planted_gain_is_found_in_watch_time_and_nowhere_else() -> None:
    report = analyse(*planted(), PLANNED)
    found = report["metrics"]["watch_time_s"]["B"]
    assert found["relative_interval"][0] < 0.3 < found["relative_interval"][1]
    assert found["p_value"] < 1e-6
    assert found["always_valid_interval"][0] > 0
    assert found["variance_removed"] > 0.5
    assert report["metrics"]["sessions"]["B"]["difference"] == 0
    assert report["sample_ratio_p"] == 1.0
    assert [one["users"] for one in report["arms"]] == [300, 300]
    assert set(report["metrics"]) == {metric.name for metric in METRICS}


def test_without_a_past_means_are_plain_ones() -> None:
    log, assigned = planted()
    log = log.filter(pl.col("timestamp_ms") >= START)
    found = analyse(log, assigned, PLANNED)["metrics"]["watch_time_s"]
    sums = user_sums(log).join(assigned, on="user_id")
    for arm in ("A", "B"):
        want = arm_mean(sums.filter(pl.col("arm") == arm)["watch_time_s"].to_numpy())
        assert found[arm]["mean"] == pytest.approx(want.value)
        assert found[arm]["variance_removed"] is None


def test_exposures_count_from_the_users_first_slate_to_the_end() -> None:
    log, assigned = planted(users=40)
    late = assigned.with_columns(first_ms=pl.lit(START + 3 * DAY))
    report = analyse(log, late, PLANNED)
    assert report["metrics"]["exposures"]["A"]["mean"] == pytest.approx(4.0)  # two days, two a day
    assert len(report["looks"]) == 2


def test_users_without_exposures_count_0() -> None:
    log, assigned = planted(users=40)
    empty = log.filter(~pl.col("user_id").is_in(["u0", "u2", "u4", "u6", "u8"]))
    report = analyse(empty, assigned, PLANNED)
    assert report["arms"][0]["users"] == 20
    recent = empty.filter(pl.col("timestamp_ms") >= START)
    plain = analyse(recent, assigned, PLANNED)["metrics"]["exposures"]["A"]["mean"]
    assert plain == pytest.approx(10.0 * 15 / 20)


def test_each_day_is_a_look_at_what_was_known_then() -> None:
    log, assigned = planted()
    looks = analyse(log, assigned, PLANNED)["looks"]
    assert [look["end_ms"] for look in looks] == [START + day * DAY for day in range(1, 6)]
    stopped = Analysis(PLANNED.shares, START, START + 2 * DAY, PLANNED.smallest_effect)
    assert analyse(log, assigned, stopped)["metrics"]["watch_time_s"] == looks[1]["arms"]


def test_a_lost_third_of_an_arm_is_flagged() -> None:
    log, assigned = planted(effect=0.0)
    lost = assigned.filter((pl.col("arm") == "A") | (pl.int_range(pl.len()) % 3 != 1))
    assert analyse(log, lost, PLANNED)["sample_ratio_flagged"]


def test_guardrails_and_needed_sizes_are_reported() -> None:
    report = analyse(*planted(), PLANNED)
    verdicts = {one["metric"]: one["verdict"] for one in report["guardrails"]}
    assert verdicts["days_active"] == "holds"  # every user was there on every day
    assert report["power"]["users_per_arm"] < 300
    assert report["power"]["days_needed"] == 5
    assert 0 < report["power"]["detectable_effect"]["B"] < 0.1


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"A": 1.0, "C": 1.0}, "arm 'C' has 0 users"),
        ({"A": 1.0}, "users in 'B'; give the share of every arm"),
    ],
)
def test_arms_that_the_plan_does_not_know_are_refused(shares: dict[str, float], message: str) -> None:
    log, assigned = planted(users=40)
    with pytest.raises(BadInput, match=message):
        analyse(log, assigned, Analysis(shares, START, START + 5 * DAY))


def test_a_user_in_two_arms_is_refused() -> None:
    log, assigned = planted(users=40)
    both = pl.concat([assigned, assigned.head(1).with_columns(arm=pl.lit("B"))])
    with pytest.raises(BadInput, match="several arms"):
        analyse(log, both, PLANNED)
