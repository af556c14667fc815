"""Reading a slate: the quick way and the strict one never disagree."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from models.errors import Invalid, NotJson
from service.http import body as bodies
from service.http import rerank_request as asked

ids = st.one_of(
    st.integers(-5, 2**70),
    st.text(max_size=5),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=8),
    st.sampled_from(["", "x" * 256, "x" * 257, "a\x7f", "a\n", "ä", "\\", '"', "\ud800"]),
    st.none(),
    st.booleans(),
)
numbers = st.one_of(st.none(), st.floats(), st.integers(-1, 90_000), st.sampled_from([0.001, 86_400, "1"]))


def members(required: dict[str, Any], optional: dict[str, Any]) -> Any:
    return st.fixed_dictionaries(required, optional=optional)


candidates = members(
    {"video_id": ids}, {"duration_s": numbers, "author_id": ids, "tag": ids, "more": st.none()}
)
slates = members(
    {"user_id": ids, "candidates": st.lists(candidates, max_size=3)},
    {
        "request_id": ids,
        "timestamp_ms": numbers,
        "top_k": numbers,
        "weights": st.none() | st.dictionaries(st.sampled_from(["watch_time", "x"]), numbers, max_size=2),
        "objectives": st.none() | st.lists(st.sampled_from(["watch_time", "x"]) | numbers, max_size=2),
        "tab": ids,
        "more": st.none(),
    },
)


def strictly(body: bytes) -> asked.Asked | str:
    try:
        return asked.Asked.of(bodies.decode(asked._strict, body))
    except (Invalid, NotJson) as e:
        return str(e)


def as_it_is(body: bytes) -> asked.Asked | str:
    try:
        return asked.read(body)
    except (Invalid, NotJson) as e:
        return str(e)


@given(slates, st.booleans())
@example({"user_id": "u", "candidates": [{"video_id": "v", "duration_s": 86_400}]}, True)
@example({"user_id": "u", "candidates": []}, True)
@example({"user_id": "u", "candidates": [{"video_id": "v"}], "top_k": 0}, True)
def test_a_body_is_read_as_if_every_candidate_were_looked_at(value: Any, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert as_it_is(body) == strictly(body)


@given(slates)
def test_whoever_is_seen_at_a_glance_is_whom_the_body_asks_for(value: Any) -> None:
    body = json.dumps(value).encode()
    glance, found = asked.whose(body), as_it_is(body)
    if glance is not None and isinstance(found, asked.Asked):
        assert glance == found.user_id


def test_plain_bodies_take_the_quick_way() -> None:
    slate = {"user_id": "u1", "candidates": [{"video_id": "v1", "duration_s": 3, "author_id": "a"}] * 2}
    body = json.dumps(slate).encode()
    assert asked._read_plain(body) == strictly(body)
    assert asked.whose(body) == "u1"


def test_of_a_user_who_is_named_twice_the_last_is_meant_either_way() -> None:
    body = b'{"user_id":"u1","candidates":[{"video_id":"v"}],"user_id":"u2"}'
    found = asked.read(body)
    assert asked.whose(body) == found.user_id == "u2"
