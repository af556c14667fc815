"""What a service has logged becomes the log that was sent."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest

from loadtests.closed_loop import there_and_back, versions_of
from models.schema import FeedbackEvent
from tests.service.merge import merge


def test_the_versions_of_an_exposure_merge_into_its_row() -> None:
    rows = [
        {"uid": f"u{i % 7}", "vid": f"v{i}", "ts": 10**12 + i, "watched": i / 8, "length": 9.0,
         "creator": "a", "category": "t", "liked": i % 3 == 0, "followed": False, "commented": False,
         "not_interested": i % 5 == 0}
        for i in range(300)
    ]  # fmt: skip
    versions: dict[str, list[FeedbackEvent]] = defaultdict(list)
    for event in versions_of(rows, random.Random(0)):
        versions[event.event_id].append(event)
    assert len(versions) == len(rows) < sum(map(len, versions.values()))
    for row, (_, (event, *others)) in zip(rows, sorted(versions.items()), strict=True):
        for other in others:
            event = merge(event, other)
        assert (event.watch_time_s, event.like, event.hate) == (
            row["watched"],
            row["liked"],
            row["not_interested"],
        )


@pytest.mark.slow
def test_a_log_comes_back_from_a_service_row_for_row(version: Path, tmp_path: Path) -> None:
    found = there_and_back(tmp_path, 1_000, 20, 0, version)
    assert found["logged"]["events"] == found["sent_events"] > found["config"]["events"]
    assert found["logged"]["slates"] == 20
    assert found["rows_are_the_same"]
