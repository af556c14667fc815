"""Every method of a kind on one log, with error bars: `python -m training compare`.

What any comparison needs (`_jobs`, `_bootstrap`, `_report`, `_stand`, `_pictures`, `_place`) knows nothing of
labels; the rest is `compare labels`.
"""

from training.compare._methods import METHODS, Method, pick
from training.compare._world import CompareConfig
from training.compare.labels import compare_labels

__all__ = ["METHODS", "CompareConfig", "Method", "compare_labels", "pick"]
