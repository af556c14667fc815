"""A simulated log whose truth is known: interest, counterfactual watch time, the platform's utility."""

from training.data.synthetic._config import SyntheticConfig
from training.data.synthetic._log import SyntheticLog, planted_utility, read_synthetic, simulate_log

__all__ = ["SyntheticConfig", "SyntheticLog", "planted_utility", "read_synthetic", "simulate_log"]
