"""`prepare --dataset served`: one row per exposure of what a service has accepted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from models.schema import FLAGS, FeedbackEvent
from models.signals import Signals
from service.state.codec import CONTEXT
from tests.conftest import run_command
from tests.service.merge import merge
from training.data import OwnLog, load, prepare
from training.data._tables import INTERACTION_SCHEMA
from training.data.readers import _served

DAY_MS = 86_400_000
NOW_MS = 1_651_330_969_569

FEEDBACK: dict[str, Any] = {name: st.booleans() for name in FLAGS}
IN_CONTEXT: dict[str, Any] = {name: st.none() | st.sampled_from(["1", "é", "z"]) for name in CONTEXT}
VERSIONS = st.lists(
    st.builds(
        FeedbackEvent,
        event_id=st.sampled_from(["e1", "e2", "e3"]),
        user_id=st.sampled_from(["u1", "u2"]),
        video_id=st.sampled_from(["v1", "é"]),
        timestamp_ms=st.integers(NOW_MS, NOW_MS + DAY_MS),
        watch_time_s=st.floats(1, 30),
        duration_s=st.floats(2, 30),
        **FEEDBACK,
        **IN_CONTEXT,
    ),
    min_size=1,
    max_size=12,
)


def write(folder: Path, *events: FeedbackEvent, name: str = "events-1.ndjson") -> Path:
    """A served log of these events, with what the service adds."""
    folder.mkdir(exist_ok=True)
    added = {"outcome": "accepted", "an addition of later versions": [1]}
    rows = [event_members(event) | added | {"logged_at_ms": at} for at, event in enumerate(events)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def event_members(event: FeedbackEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def event(event_id: str = "e1", user_id: str = "u1", **members: Any) -> FeedbackEvent:
    whole: dict[str, Any] = {
        "video_id": "v1",
        "timestamp_ms": NOW_MS,
        "watch_time_s": 3.0,
        "duration_s": 9.0,
    } | members
    return FeedbackEvent(event_id=event_id, user_id=user_id, **whole)


@settings(max_examples=30)
@given(versions=VERSIONS, batch=st.integers(1, 5))
def test_versions_merge_as_in_the_service_in_any_order_and_any_number_of_batches(
    versions: list[FeedbackEvent], batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    merged: dict[tuple[str, str, str], FeedbackEvent] = {}
    for version in versions:
        key = (version.event_id, version.user_id, version.video_id)
        merged[key] = merge(merged[key], version) if key in merged else version
    columns = ("event_id", *INTERACTION_SCHEMA)
    expected = sorted(tuple(getattr(e, name) for name in columns) for e in merged.values())
    folder = write(tmp_path_factory.mktemp("served"), *versions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_served, "BATCH_LINES", batch)
        exposures = _served.served_exposures(folder)
        written = prepare("served", folder, folder / "out", progress=False)
    assert sorted(exposures.select(columns).rows()) == expected
    assert exposures["lines"].sum() == len(versions) == written.info.rows.read
    log = pl.read_parquet(folder / "out" / "interactions.parquet")
    assert log.rows() == [e[1:] for e in sorted(expected, key=lambda e: (e[3], e[1], e[2], e[0]))]


def test_an_exposure_has_the_slate_that_was_given_first(tmp_path: Path) -> None:
    shown: list[dict[str, Any]] = [
        {},
        {"request_id": "r2", "position": 5},
        {"request_id": "r1"},
        {"position": 1},
    ]
    folder = write(tmp_path / "log", *(event(**members) for members in shown), event("e2"))
    exposures = _served.served_exposures(folder).sort("event_id")
    given = exposures.select("event_id", "request_id", "position", "given_at_ms").rows()
    assert given == [("e1", "r2", 5, 1), ("e2", None, None, None)]


def test_the_tables_are_of_the_exposures_and_the_note_counts_the_lines(tmp_path: Path) -> None:
    folder = write(tmp_path / "log", event(), event(like=True, author_id="a"), event("e2", "u2", tag="t"))
    (folder / "events-2.ndjson.gz").write_bytes(gzip.compress((folder / "events-1.ndjson").read_bytes()))
    (folder / "events-2.ndjson").write_text("is compressed, and not yet removed")
    with (folder / "events-1.ndjson").open("a") as file:
        file.write('{"event_id": "e3", "user_id": "u9", "vid')
    (folder / "slates-1.ndjson").write_text("not read")
    summary = prepare("served", folder, tmp_path / "out", progress=False)
    assert str(summary).startswith("2 of 6 rows (dropped: 4 merged_or_repeated), 2 users, 1 videos")
    data = load(summary.out)
    assert data.log.select("user_id", "like", "author_id", "tag").rows() == [
        ("u1", True, "a", None),
        ("u2", False, None, "t"),
    ]
    assert data.tables.users["user_id"].to_list() == ["u1", "u2"]
    videos = pl.read_parquet(summary.out / "videos.parquet")
    assert videos.rows() == [("v1", 9.0, "a", "t")]


def test_signals_are_merged_and_of_the_kind_that_was_declared(tmp_path: Path) -> None:
    given: list[dict[str, bool | float] | None] = [
        None,
        {"stars": 2.0, "dull": True},
        {"stars": 4.0, "fav": True},
    ]
    folder = write(
        tmp_path / "log", *(event(signals=s) for s in given), event("e2", signals={"report": True})
    )
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"negative": {"dull": "dull"}, "positive": {"save": "saved"}}')
    summary = prepare("served", folder, tmp_path / "out", own=OwnLog(mapping=mapping), progress=False)
    data = load(summary.out)
    assert data.signals == Signals(positive=("save", "fav"), negative=("dull", "report"), numbers=("stars",))
    assert data.log.select(data.signals.names).rows() == [
        (False, True, True, False, 4.0),
        (False, False, False, True, 0.0),
    ]
    rows = _served.signals_of(_served.served_exposures(folder).sort("event_id"))
    assert rows[0] == {"stars": 4.0, "dull": True, "fav": True, "report": False}


def test_features_come_from_the_tables_of_the_log_before(tmp_path: Path) -> None:
    folder = write(tmp_path / "log", event(), event("e2", "u2", video_id="v2"))
    (tmp_path / "videos.csv").write_text("vid,length,labels\nv1,9000,a|b\nv3,1000,\n")
    (tmp_path / "users.csv").write_text("uid,age\nu1,30\n")
    (tmp_path / "mapping.json").write_text(
        '{"videos": {"video_id": "vid", "duration_s": "length:ms", "labels": "labels:ids"},'
        ' "users": {"user_id": "uid", "age": "age:number"}}'
    )
    own = OwnLog(tmp_path / "videos.csv", tmp_path / "users.csv", tmp_path / "mapping.json")
    data = load(prepare("served", folder, tmp_path / "out", own=own, progress=False).out)
    assert data.profile_numbers == ("age",)
    assert data.video_features.categories == ("labels",)
    assert data.tables.videos.select("video_id", "labels").rows() == [
        ("v1", ["a", "b"]), ("v2", None), ("v3", None),
    ]  # fmt: skip
    assert data.tables.users.rows() == [("u1", 30.0)]
    with pytest.raises(BadInput, match="give it with --mapping"):
        prepare("served", folder, tmp_path / "again", own=OwnLog(tmp_path / "videos.csv"), progress=False)


def test_forgotten_users_are_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "log", event(), event("e2", "u2"))
    ledger = tmp_path / "ledger"
    ledger.write_text('{"user_id": "u1", "forgotten_at_ms": 1}\n')
    summary = prepare("served", folder, tmp_path / "out", forget=[ledger], progress=False)
    assert load(summary.out).log["user_id"].to_list() == ["u2"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "--source"),
        ("", "holds no event yet"),
        ("{}\n", "events-1.ndjson, line 1 is no line of a served log"),
        ('{"user_id": \n', "line 1 is no line"),
    ],
)
def test_a_log_that_cannot_be_used_ends_with_one_line(tmp_path: Path, text: str | None, reason: str) -> None:
    options: tuple[str | Path, ...] = ()
    if text is not None:
        options = ("--source", write(tmp_path / "log"))
        (tmp_path / "log" / "events-1.ndjson").write_text(text)
    ended = run_command("prepare", "--dataset", "served", "--out", tmp_path / "out", *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert reason in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_no_folder_and_a_damaged_file_end_with_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "log" / "events-1.ndjson.gz"
    for source, reason in ((tmp_path / "none", "is no folder"), (damaged.parent, "cannot be read")):
        ended = run_command("prepare", "--dataset", "served", "--source", source, "--out", tmp_path / "out")
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
        assert reason in ended.stderr
        damaged.parent.mkdir(exist_ok=True)
        damaged.write_bytes(b"no gzip")
