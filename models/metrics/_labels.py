"""Binary outcomes of an exposure that a ranking is evaluated on."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.metrics._rows import Column

LONG_VIEW_S: Final = 18.0
"""Above this duration a view counts as long without being complete."""


def long_view(watch_time_s: Column, duration_s: Column) -> npt.NDArray[np.bool_]:
    """Return which exposures were watched to the end, or for 18 seconds of a longer video.

        long_view = w >= min(d, 18 s)

    Args:
        watch_time_s: `[N]` seconds watched, not clipped.
        duration_s: `[N]` length of the video in seconds, > 0.

    Returns:
        `[N]` bool.

    Source: column `is_long_view` as KuaiRand's documentation defines it (Gao et al., CIKM 2022).
    """
    out: npt.NDArray[np.bool_] = np.asarray(watch_time_s) >= np.minimum(duration_s, LONG_VIEW_S)
    return out
