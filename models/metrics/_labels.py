"""Binary outcomes of an exposure that rankings and predicted distributions are evaluated on."""

# Shape suffixes: N exposures.

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.metrics._rows import Column

LONG_VIEW_S: Final = 18.0
"""Above this duration a view counts as long without being complete."""
SKIP_S: Final = 3.0
"""A view shorter than this, and than the video, is a skip."""
COMPLETE_RATIO: Final = 0.02
"""A watch time this near the duration, as a share of it, is a complete view. Beyond that it is a replay."""
STATES: Final = ("skip", "complete", "replay")
"""Ends of an exposure, in the order of `watch_states`. One with none of them is a partial view."""


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


def watch_states(watch_time_s: Column, duration_s: Column) -> npt.NDArray[np.bool_]:
    """Return in which of `STATES` exposures ended; no two of them go together.

        skip        w < min(3 s, d)
        complete    |w / d - 1| <= 0.02
        replay      w > 1.02 d

    Args:
        watch_time_s: `[N]` seconds watched, not clipped.
        duration_s: `[N]` length of the video in seconds, > 0.

    Returns:
        `[N, 3]` bool.
    """
    watched, duration = np.asarray(watch_time_s), np.asarray(duration_s)
    skip = watched < np.minimum(duration, SKIP_S)
    replay = watched > duration * (1 + COMPLETE_RATIO)
    complete = ~skip & ~replay & (watched >= duration * (1 - COMPLETE_RATIO))
    return np.stack([skip, complete, replay], axis=-1)
