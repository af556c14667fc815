"""Decoding a rerank query: the fast decoder and the strict one never disagree."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from models.errors import Invalid, NotJson
from service.pipeline.rerank_query import RerankBody, RerankQuery

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
    {"video_id": ids},
    {
        "duration_s": numbers,
        "author_id": ids,
        "tag": ids,
        "published_ms": numbers | st.sampled_from([10**11, 10**11 - 1]),
        "more": st.none(),
    },
)
rules = members(
    {},
    {
        "exclude_seen": st.booleans() | numbers,
        "exclude_hated": st.sampled_from(["video", "author", "x"]) | st.none(),
        "fresh_boost": members({"hours": numbers, "weight": numbers}, {}) | st.none(),
        "author_decay": numbers,
        "diversity": numbers,
        "max_per_author": numbers,
        "max_per_tag": numbers,
        "pin": st.dictionaries(st.sampled_from(["v", "w"]), numbers, max_size=2),
        "more": st.none(),
    },
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
        "rules": rules | st.none(),
        "more": st.none(),
    },
)


def rerank_body(content: bytes) -> RerankBody:
    return RerankBody(content, explain=False, deadline=0.0)


def outcome(decode: Callable[[], RerankQuery]) -> RerankQuery | str:
    """The query, or what is wrong with it."""
    try:
        return decode()
    except (Invalid, NotJson) as e:
        return str(e)


@given(slates, st.booleans())
@example({"user_id": "u", "candidates": [{"video_id": "v", "duration_s": 86_400}]}, True)
@example({"user_id": "u", "candidates": []}, True)
@example({"user_id": "u", "candidates": [{"video_id": "v"}], "top_k": 0}, True)
def test_a_body_is_decoded_as_if_every_candidate_were_checked(value: Any, escaped: bool) -> None:
    body = rerank_body(json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))
    assert outcome(body.decode) == outcome(body.decode_strictly)


@given(slates)
def test_the_user_that_a_body_begins_with_is_the_querys(value: Any) -> None:
    body = rerank_body(json.dumps(value).encode())
    begins_with, query = body.user_id, outcome(body.decode)
    if begins_with is not None and isinstance(query, RerankQuery):
        assert begins_with == query.user_id


def test_plain_bodies_take_the_fast_decoder() -> None:
    slate = {"user_id": "u1", "candidates": [{"video_id": "v1", "duration_s": 3, "author_id": "a"}] * 2}
    body = rerank_body(json.dumps(slate).encode())
    assert body.decode_plain() == body.decode_strictly()
    assert body.user_id == "u1"


def test_of_a_user_who_is_named_twice_the_last_counts_in_both_decoders() -> None:
    body = rerank_body(b'{"user_id":"u1","candidates":[{"video_id":"v"}],"user_id":"u2"}')
    assert body.decode().user_id == body.decode_strictly().user_id == "u2"
