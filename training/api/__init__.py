"""The Python API for notebooks: the functions that the commands call, on logs in memory."""

from training.api._label import label
from training.api._log import Log, read_log
from training.api._run import Picture, Run, fit, open_run

__all__ = ["Log", "Picture", "Run", "fit", "label", "open_run", "read_log"]
