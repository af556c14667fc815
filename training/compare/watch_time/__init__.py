"""`compare watch-time`: every watch-time head on one encoder and one log, next to boosted trees."""

from training.compare.watch_time._compare import compare_watch_time
from training.compare.watch_time._methods import METHODS, Method
from training.compare.watch_time._world import WatchTimeConfig

__all__ = [
    "METHODS",
    "Method",
    "WatchTimeConfig",
    "compare_watch_time",
]
