"""Statistics of online experiments, in which users are split at random between arms.

`analyse` compares the arms of an experiment in every metric. A user is the unit: `arm_mean` takes each user's
sums, `cuped` removes what is known from before the start, `arm_difference` compares two arms for one look and
for a look every day, `sample_ratio_p` checks the split:

    >>> control, treatment = ArmMean(100.0, 173.0, 40_000), ArmMean(104.0, 173.0, 40_000)
    >>> found = arm_difference(control, treatment)
    >>> f"{found.relative:.1%}", f"{found.p_value:.4f}"
    ('4.0%', '0.0011')
    >>> users_per_arm(0.00039, coefficient_of_variation=1.73) // 10**6  # millions
    308
"""

from training.ab_tests._always_valid import always_valid_half_width
from training.ab_tests._analysis import GUARDRAILS, Analysis, analyse
from training.ab_tests._arm_mean import ArmMean, arm_mean, linearised
from training.ab_tests._cuped import Adjusted, cuped, pre_period
from training.ab_tests._difference import SMALLEST_EFFECT, ArmDifference, arm_difference
from training.ab_tests._guardrail import Guardrail
from training.ab_tests._power import days_needed, detectable_effect, users_per_arm
from training.ab_tests._sample_ratio import SAMPLE_RATIO_ALPHA, sample_ratio_p
from training.ab_tests._user_sums import METRICS, Metric, user_sums

__all__ = [
    "GUARDRAILS",
    "METRICS",
    "SAMPLE_RATIO_ALPHA",
    "SMALLEST_EFFECT",
    "Adjusted",
    "Analysis",
    "ArmDifference",
    "ArmMean",
    "Guardrail",
    "Metric",
    "always_valid_half_width",
    "analyse",
    "arm_difference",
    "arm_mean",
    "cuped",
    "days_needed",
    "detectable_effect",
    "linearised",
    "pre_period",
    "sample_ratio_p",
    "user_sums",
    "users_per_arm",
]
