"""What an event, a candidate and an id may be, on the wire and in Python."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import (
    EXPLICIT,
    FLAGS,
    MAX_DURATION_S,
    MAX_POSITION,
    MAX_TIMESTAMP_MS,
    MAX_WATCH_TIME_S,
    MIN_DURATION_S,
    Candidate,
    FeedbackEvent,
)

EVENT: dict[str, Any] = {
    "event_id": "e1",
    "user_id": "u1",
    "video_id": "v1",
    "timestamp_ms": 1_651_330_969_569,
    "watch_time_s": 48.4,
    "duration_s": 24.0,
}
IDS = [
    "event_id", "user_id", "video_id", "session_id", "tab", "device", "author_id", "tag", "request_id",
]  # fmt: skip
CONTROLS = [chr(c) for c in (*range(32), *range(127, 160))]
PRINTABLE = st.characters(exclude_categories=["Cs"], exclude_characters=CONTROLS)


def decode(**members: Any) -> FeedbackEvent:
    """An event as it comes over the wire."""
    return msgspec.json.decode(json.dumps(EVENT | members), type=FeedbackEvent)


def refused(match: str, **members: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=match):
        decode(**members)


# --- ids


@pytest.mark.parametrize("member", IDS)
@given(text=st.text(PRINTABLE, min_size=1, max_size=64))
def test_any_text_without_control_characters_is_an_id_and_stays_as_it_is(member: str, text: str) -> None:
    assert getattr(decode(**{member: text}), member) == text


@pytest.mark.parametrize("member", IDS)
@pytest.mark.parametrize(("number", "text"), [(7, "7"), (0, "0"), (-5, "-5"), (2**70, str(2**70))])
def test_an_integer_means_its_decimal_string(member: str, number: int, text: str) -> None:
    event = decode(**{member: number})
    assert getattr(event, member) == text
    assert event == decode(**{member: text})


@pytest.mark.parametrize("member", IDS)
@pytest.mark.parametrize("value", [1.0, 1e3, True, [], {}])
def test_nothing_else_is_an_id(member: str, value: object) -> None:
    refused(f"Expected .* at `\\$.{member}`", **{member: value})


@pytest.mark.parametrize("member", IDS)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("a", "b"), ("é" * 40, "")])
def test_every_control_character_is_refused_wherever_it_stands(member: str, before: str, after: str) -> None:
    for control in CONTROLS:
        refused(f"`{member}` holds a control character", **{member: before + control + after})


@pytest.mark.parametrize("text", ["a", "é", "漢", "😀"])
def test_the_limit_is_in_bytes_of_utf8_not_in_characters(text: str) -> None:
    fits = 256 // len(text.encode())
    assert decode(video_id=text * fits).video_id == text * fits
    refused("`video_id` must be 1 to 256 bytes", video_id=text * (fits + 1))


def test_an_empty_id_is_refused() -> None:
    for member in IDS:
        refused(f"`{member}` must be 1 to 256 bytes, found 0", **{member: ""})


def test_a_lone_surrogate_is_refused_on_the_wire_and_in_python() -> None:
    with pytest.raises(msgspec.DecodeError, match="surrogate"):
        msgspec.json.decode(json.dumps(EVENT | {"user_id": "a\ud800b"}), type=FeedbackEvent)
    with pytest.raises(ValueError, match="lone surrogate"):
        FeedbackEvent(**EVENT | {"user_id": "a\ud800b"})
    with pytest.raises(ValueError, match="lone surrogate"):
        FeedbackEvent(**EVENT | {"user_id": "\udfff" * 300})


def test_a_surrogate_pair_is_one_character() -> None:
    wire = json.dumps(EVENT | {"user_id": "😀"}, ensure_ascii=True)
    assert "\\ud83d\\ude00" in wire
    assert msgspec.json.decode(wire, type=FeedbackEvent).user_id == "😀"


# --- amounts


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("watch_time_s", 0), ("watch_time_s", MAX_WATCH_TIME_S), ("duration_s", MIN_DURATION_S),
        ("duration_s", MAX_DURATION_S), ("timestamp_ms", 0), ("timestamp_ms", MAX_TIMESTAMP_MS),
        ("position", 1), ("position", MAX_POSITION),
    ],
)  # fmt: skip
def test_limits_are_inside(member: str, value: float) -> None:
    assert getattr(decode(**{member: value}), member) == value


@pytest.mark.parametrize(
    ("member", "value", "match"),
    [
        ("watch_time_s", -0.001, "must be 0 to 604800 s, found -0.001"),
        ("watch_time_s", MAX_WATCH_TIME_S + 1, "is it in milliseconds"),
        ("duration_s", 0, "must be 0.001 to 86400 s, found 0"),
        ("duration_s", 1e-60, "must be 0.001 to 86400 s"),
        ("duration_s", -3, "must be 0.001 to 86400 s, found -3"),
        ("duration_s", 86_401, "is it in milliseconds"),
        ("timestamp_ms", -1, "must be 0 to"),
        ("position", 0, "must be 1 to 1000000, found 0"),
        ("position", MAX_POSITION + 1, "must be 1 to"),
        ("timestamp_ms", MAX_TIMESTAMP_MS + 1, "must be 0 to"),
    ],
)
def test_what_is_outside_is_refused_with_the_rule_and_what_was_found(
    member: str, value: float, match: str
) -> None:
    refused(f"`{member}` {match}" if match.startswith("must") else match, **{member: value})


@pytest.mark.parametrize("member", ["watch_time_s", "duration_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_of_seconds_is_refused(member: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{member}` must be"):
        FeedbackEvent(**EVENT | {member: value})
    with pytest.raises(msgspec.DecodeError):
        decode(**{member: value})  # JSON has no such number either


@pytest.mark.parametrize(
    ("member", "value"),
    [("watch_time_s", "5"), ("watch_time_s", True), ("watch_time_s", None), ("timestamp_ms", 1.5),
     ("timestamp_ms", "1651330969569"), ("like", 1), ("like", "true"), ("like", None)],
)  # fmt: skip
def test_nothing_is_guessed_from_another_type(member: str, value: object) -> None:
    refused(f"Expected .* at `\\$.{member}`", **{member: value})


def test_a_loop_is_kept_as_it_is() -> None:
    assert decode(watch_time_s=100.0, duration_s=10.0).watch_time_s == 100.0


# --- members


@pytest.mark.parametrize("member", ["event_id", "user_id", "video_id", "timestamp_ms", "watch_time_s"])
def test_a_missing_member_is_named(member: str) -> None:
    wire = json.dumps({k: v for k, v in EVENT.items() if k != member})
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{member}`"):
        msgspec.json.decode(wire, type=FeedbackEvent)


def test_an_unknown_member_is_refused() -> None:
    refused("unknown field `watch_time_ms`", watch_time_ms=5)


def test_what_may_be_left_out_is_unknown_and_not_done() -> None:
    event = decode(duration_s=None)
    assert (event.duration_s, event.tab, event.author_id, event.tag) == (None, None, None, None)
    assert not any(getattr(event, flag) for flag in FLAGS)


def test_every_flag_is_a_member_and_hate_is_not_explicit_feedback() -> None:
    assert set(FLAGS) <= set(FeedbackEvent.__struct_fields__)
    assert set(EXPLICIT) == set(FLAGS) - {"hate", "profile_enter"}


@given(
    watched=st.floats(0, MAX_WATCH_TIME_S),
    duration=st.none() | st.floats(MIN_DURATION_S, MAX_DURATION_S),
    flags=st.lists(st.booleans(), min_size=6, max_size=6),
    user=st.text(PRINTABLE, min_size=1, max_size=64),
    tab=st.none() | st.integers(),
)
def test_what_was_read_is_written_and_read_again_unchanged(
    watched: float, duration: float | None, flags: list[bool], user: str, tab: int | None
) -> None:
    event = decode(
        watch_time_s=watched,
        duration_s=duration,
        user_id=user,
        tab=tab,
        **dict(zip(FLAGS, flags, strict=True)),
    )
    assert msgspec.json.decode(msgspec.json.encode(event), type=FeedbackEvent) == event


def test_an_event_is_immutable() -> None:
    with pytest.raises(AttributeError):
        decode().like = True  # type: ignore[misc]


# --- candidates


def test_a_candidate_is_checked_like_an_event() -> None:
    assert msgspec.json.decode(b'{"video_id": 7, "tag": 39}', type=Candidate) == Candidate(
        video_id="7", tag="39"
    )
    for wire, match in (
        (b"{}", "missing required field `video_id`"),
        (b'{"video_id": ""}', "1 to 256 bytes"),
        (b'{"video_id": "v", "author_id": "a\\n"}', "`author_id` holds a control character"),
        (b'{"video_id": "v", "duration_s": 0}', "`duration_s` must be 0.001"),
        (b'{"video_id": "v", "duration_s": 90000}', "milliseconds"),
        (b'{"video_id": "v", "length": 3}', "unknown field"),
    ):
        with pytest.raises(msgspec.ValidationError, match=match):
            msgspec.json.decode(wire, type=Candidate)
