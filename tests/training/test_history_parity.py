"""A user's older exposures reach the ranker alike, from a log in training and from a store in serving."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import I64
from models.features import (
    FEEDBACK_COLUMNS,
    HISTORY_COLUMNS,
    HISTORY_LENGTH,
    Exposures,
    HistoryEntries,
    history_arrays,
    history_feedback,
    sequence_arrays,
)
from models.schema import FeedbackEvent
from models.vocabulary import Vocabulary
from training.data import Interactions, load

VOCABULARY = Vocabulary(
    {"video_id": [f"v{i}" for i in range(12)], "author_id": ["a"], "tag": [], "tab": ["1"]}
)
LOGGED = ("user_id", "video_id", "timestamp_ms", "tab", "author_id", "tag")
KEPT = 100
"""Events of a stored sequence."""


def events_of(user: int, count: int, random: np.random.Generator) -> list[FeedbackEvent]:
    """Exposures a second apart, some of videos that the vocabulary does not know."""
    return [
        FeedbackEvent(
            event_id=f"{user}-{second}",
            user_id=f"u{user}",
            video_id=f"v{random.integers(15)}",
            timestamp_ms=1_700_000_000_000 + 1000 * second,
            watch_time_s=float(random.choice([0.0, 3.0, 17.9, 18.0, 40.0])),
            duration_s=float(random.choice([3.0, 17.9, 60.0])),
            like=bool(random.random() < 0.3),
            tab="1",
            author_id="a",
            tag="t",
        )
        for second in range(count)
    ]


def interactions_of(log: list[dict[str, Any]], history: list[dict[str, Any]]) -> Interactions:
    """Write both as a `DATA` folder and load it."""
    schema: dict[str, Any] = {"user_id": pl.String, "video_id": pl.String, "position": pl.Int64}
    schema |= dict.fromkeys(HISTORY_COLUMNS, pl.Boolean)
    with TemporaryDirectory() as name:
        folder = Path(name)
        pl.DataFrame(log).write_parquet(folder / "interactions.parquet")
        pl.DataFrame(history, schema).write_parquet(folder / "history.parquet")
        return load(folder).interactions(VOCABULARY)


@given(
    counts=st.lists(st.integers(1, 160), min_size=1, max_size=3),
    splits=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    length=st.integers(KEPT - HISTORY_LENGTH - 20, KEPT - HISTORY_LENGTH),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_histories_are_equal_wherever_the_log_begins(
    counts: list[int], splits: list[float], length: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    log: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    served = []
    for user, (count, split) in enumerate(zip(counts, splits, strict=False)):
        events = events_of(user, count, random)
        start = int(split * (count - 1))  # before it only flags are known
        before, after = events[:start][-HISTORY_LENGTH:], events[start:]
        flags = history_feedback(Exposures.from_events(before).feedback)
        for back, (event, row) in enumerate(zip(before[::-1], flags[::-1], strict=True)):
            known = dict(zip(HISTORY_COLUMNS, (row > 0).tolist(), strict=True))
            history.append(
                {"user_id": event.user_id, "video_id": event.video_id, "position": back + 1, **known}
            )
        entries = HistoryEntries([event.video_id for event in before], flags)
        for row in range(len(after)):
            stored = Exposures.from_events(after[:row][-KEPT:])
            served.append(
                sequence_arrays(stored.newest(length), VOCABULARY, after[row].timestamp_ms)
                | history_arrays(stored.older(length), entries, VOCABULARY)
            )
        log += [{name: getattr(event, name) for name in (*LOGGED, *FEEDBACK_COLUMNS)} for event in after]
    trained = interactions_of(log, history)
    rows: I64 = np.arange(len(trained), dtype=np.int64)
    found = trained.history(rows, length)._asdict()
    assert len(served) == len(rows)
    for row, want in enumerate(served):
        for name, array in want.items():
            padding = found[name].shape[1] - array.shape[1]
            np.testing.assert_array_equal(found[name][row, padding:], array[0], err_msg=f"{name} {row}")
            assert (found[name][row, :padding] == 0).all()
