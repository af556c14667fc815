"""An experiment from its exposures: every metric of every arm against the control, now and on each day."""

# Shape suffixes: U users of one arm, C covariates.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from models.arrays import F64
from models.errors import BadInput
from training.ab_tests._arm_mean import ArmMean, arm_mean, linearised
from training.ab_tests._cuped import cuped, pre_period
from training.ab_tests._difference import SMALLEST_EFFECT, arm_difference
from training.ab_tests._guardrail import Guardrail
from training.ab_tests._power import days_needed, detectable_effect, users_per_arm
from training.ab_tests._sample_ratio import SAMPLE_RATIO_ALPHA, sample_ratio_p
from training.ab_tests._user_sums import DAY_MS, LABEL, METRICS, Metric, user_sums

GUARDRAILS = (
    Guardrail("hate", 0.05, higher_is_better=False),
    Guardrail("skip_rate", 0.02, higher_is_better=False),
    Guardrail("days_active", 0.01),
)
"""What a gain in watch time may not be paid with."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is asked of an experiment, fixed before its first look."""

    shares: Mapping[str, float]
    """Planned share of the users by arm, in any unit. The first arm is the control."""
    start_ms: int
    end_ms: int
    """Exclusive; the last moment that is looked at."""
    smallest_effect: float = SMALLEST_EFFECT
    guardrails: Sequence[Guardrail] = GUARDRAILS


@dataclass(frozen=True, slots=True)
class _Look:
    """The users of every arm who were assigned until a moment, and their sums."""

    during: Mapping[str, pl.DataFrame]
    before: Mapping[str, pl.DataFrame]
    """Of the same users in the same order."""

    def arms(self, metric: Metric) -> tuple[dict[str, ArmMean], float | None]:
        """Return the arms in a metric, by CUPED if any user has a past, and the variance it removed."""
        outcome = self._linear(self.during, metric)
        if not any(past["exposures"].sum() > 0 for past in self.before.values()):
            return {arm: arm_mean(x_U) for arm, x_U in outcome.items()}, None
        past = self._linear(self.before, metric)
        covariates = {
            arm: pre_period(x_U, (self.before[arm]["exposures"] == 0).cast(pl.Float64).to_numpy())
            for arm, x_U in past.items()
        }
        return cuped(outcome, covariates)

    @staticmethod
    def _linear(sums: Mapping[str, pl.DataFrame], metric: Metric) -> dict[str, F64]:
        columns = [name for name in (metric.numerator, metric.denominator) if name is not None]
        return {
            arm: linearised(*(users[name].to_numpy() for name in columns))[1] for arm, users in sums.items()
        }


def analyse(exposures: pl.DataFrame, assigned: pl.DataFrame, analysis: Analysis) -> dict[str, Any]:
    """Compare the arms of an experiment.

    A user counts from the first slate on that an arm has ranked, with 0 where nothing followed. Exposures
    from before the start are the pre-period.

    Args:
        exposures: as for `user_sums`, from before, during and after.
        assigned: `user_id`, `arm` and `first_ms`, the moment of the user's first slate of the experiment.
        analysis: what is asked.

    Returns:
        `arms`, `sample_ratio_p`, per metric and arm its figures (`metrics`), the same in watch time for each
        day (`looks`), the verdicts of the `guardrails`, and what size the experiment needs (`power`).

    Raises:
        BadInput: an arm has fewer than two users, or a user is in two arms.
    """
    assigned = assigned.filter(pl.col("first_ms").is_between(analysis.start_ms, analysis.end_ms, "left"))
    _refuse_unusable(assigned, analysis)
    ends = [*range(analysis.start_ms + DAY_MS, analysis.end_ms, DAY_MS), analysis.end_ms]
    last = _look(exposures, assigned, analysis, analysis.end_ms)
    users = {arm: len(last.during[arm]) for arm in analysis.shares}
    ratio_p = sample_ratio_p(list(users.values()), list(analysis.shares.values()))
    known = (*METRICS, *((LABEL,) if LABEL.name in exposures.columns else ()))
    metrics = {metric.name: _figures(last, metric, analysis) for metric in known}
    looks = []
    for end_ms in ends:
        until = assigned.filter(pl.col("first_ms") < end_ms)
        if until["arm"].value_counts().filter(pl.col("count") > 1).height == len(users):
            look = _look(exposures, until, analysis, end_ms)
            looks.append({"end_ms": end_ms, "arms": _figures(look, METRICS[0], analysis)})
    return {
        "arms": [
            {"arm": arm, "share": share / sum(analysis.shares.values()), "users": users[arm]}
            for arm, share in analysis.shares.items()
        ],
        "sample_ratio_p": ratio_p,
        "sample_ratio_flagged": ratio_p < SAMPLE_RATIO_ALPHA,
        "metrics": metrics,
        "looks": looks,
        "guardrails": _verdicts(last, analysis),
        "power": _power(last, assigned, analysis),
    }


def _refuse_unusable(assigned: pl.DataFrame, analysis: Analysis) -> None:
    counts = dict(assigned["arm"].value_counts().iter_rows())
    for arm in analysis.shares:
        if counts.get(arm, 0) < 2:
            raise BadInput(
                f"arm {arm!r} has {counts.get(arm, 0)} users in this time, at least 2 are needed; the log "
                f"has {', '.join(sorted(map(repr, counts))) or 'no arm'}."
            )
    if unknown := sorted(set(counts) - set(analysis.shares)):
        raise BadInput(f"the log has users in {', '.join(map(repr, unknown))}; give the share of every arm.")
    if (several := assigned["user_id"].is_duplicated().sum()) > 0:
        raise BadInput(f"{several} lines assign one user to several arms; nothing can be compared by user.")


def _look(exposures: pl.DataFrame, assigned: pl.DataFrame, analysis: Analysis, end_ms: int) -> _Look:
    moment = pl.col("timestamp_ms")
    joined = exposures.join(assigned, on="user_id")
    during = user_sums(joined.filter(moment >= pl.col("first_ms"), moment < end_ms))
    before = user_sums(joined.filter(moment < analysis.start_ms))
    by_arm = {
        arm: assigned.filter(pl.col("arm") == arm).select("user_id").sort("user_id")
        for arm in analysis.shares
    }

    def of_arm(sums: pl.DataFrame) -> dict[str, pl.DataFrame]:
        return {
            arm: users.join(sums, on="user_id", how="left", maintain_order="left").fill_null(0.0)
            for arm, users in by_arm.items()
        }

    return _Look(of_arm(during), of_arm(before))


def _figures(look: _Look, metric: Metric, analysis: Analysis) -> dict[str, dict[str, Any]]:
    """Return the figures of every arm in a metric, those of a comparison for every arm but the control."""
    arms, removed = look.arms(metric)
    control, *treatments = analysis.shares
    figures: dict[str, dict[str, Any]] = {
        arm: {"mean": one.value, "users": one.users, "variance_removed": removed} for arm, one in arms.items()
    }
    for arm in treatments:
        found = arm_difference(arms[control], arms[arm], smallest_effect=analysis.smallest_effect)
        figures[arm] |= asdict(found)
        if not np.isfinite(found.always_valid_interval).all():  # the control has nothing of it
            figures[arm]["always_valid_interval"] = None
    return figures


def _verdicts(last: _Look, analysis: Analysis) -> list[dict[str, Any]]:
    control, *treatments = analysis.shares
    metrics = {metric.name: metric for metric in METRICS}
    verdicts = []
    for guardrail in analysis.guardrails:
        arms, _ = last.arms(metrics[guardrail.metric])
        for arm in treatments:
            found = arm_difference(arms[control], arms[arm], smallest_effect=guardrail.tolerance)
            verdicts.append(asdict(guardrail) | {"arm": arm, "verdict": guardrail.verdict(found)})
    return verdicts


def _power(last: _Look, assigned: pl.DataFrame, analysis: Analysis) -> dict[str, Any]:
    """Return what the experiment can find in watch time, and what the smallest effect of interest needs."""
    arms, _ = last.arms(METRICS[0])
    control, *treatments = analysis.shares
    one = arms[control]
    days = (analysis.end_ms - analysis.start_ms) / DAY_MS
    variation = one.deviation / one.value if one.value > 0 else None
    wanted = None if variation is None else users_per_arm(analysis.smallest_effect, variation)
    smallest = min(arm.users for arm in arms.values())
    latest = assigned.filter(pl.col("first_ms") >= analysis.end_ms - DAY_MS)
    new_users = latest["arm"].value_counts()["count"].to_numpy()
    return {
        "metric": METRICS[0].name,
        "coefficient_of_variation": variation,
        "detectable_effect": {arm: detectable_effect(one, arms[arm]) for arm in treatments if one.value},
        "effect": analysis.smallest_effect,
        "users_per_arm": wanted,
        "days_needed": None
        if wanted is None
        else days_needed(wanted, smallest, days, float(np.min(new_users)) if len(new_users) else 0.0),
    }
