"""Where a computation runs: on the event loop when it is short, in a thread when it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio.to_thread

P = ParamSpec("P")
R = TypeVar("R")


async def run(inline: bool, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`fn(*args, **kwargs)`, computed in place if `inline`.

    A thread hop costs about 0.1 ms and lengthens the tail, so short work is not worth one; long work on the
    loop makes every other request wait for it. ONNX Runtime lets go of the interpreter while it computes.
    """
    if inline:
        return fn(*args, **kwargs)
    return await anyio.to_thread.run_sync(lambda: fn(*args, **kwargs))
