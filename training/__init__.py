"""Offline: logs in, bundles out. Imports `models`, never `service`.

In a notebook:

    import training

    log = training.read_log(frame, columns={"user_id": "uid", "watch_time_s": "played:ms"})
    labels = training.label(log, "models/bundles", ["labelcraft"])
    run = training.fit(log, loop={"epochs": 6})
    run.export("bundles", promote=True)
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.api import Log, Run, fit, label, open_run, read_log

__all__ = ["Log", "Run", "fit", "label", "open_run", "read_log"]

# Threads of torch that wait for each other should sleep. Spinning ones make a step several times slower as
# soon as anything else runs on the machine. Read when torch is first imported, so it is set here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def __getattr__(name: str) -> Any:
    """Import the API when it is used: `python -m training promote` needs no training stack."""
    if name in __all__:
        return getattr(import_module("training.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
