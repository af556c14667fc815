"""The items of a slate, written as columns of bytes, are those that an encoder writes one by one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.pipeline.rerank_reply import NUMBERS, Items
from service.wire import Anchor, Item, ItemExplanation

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
ids = texts | st.sampled_from(['","', "\\", '\\"', "ä\u2028", "9" * 256, "\x7f"])
numbers = st.one_of(
    st.floats(0, 1, width=32),
    st.floats(0, 200_000, width=32),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 9.9999995, 10.0, 99_999.99, 100_000.0, 1e-7, -1.5, 3.4e38]),
)
anchors = st.lists(st.builds(Anchor, numbers, numbers), max_size=2)
some = st.dictionaries(texts, numbers, max_size=2)
explanations = st.builds(ItemExplanation, some, anchors, some, st.none() | some)


@st.composite
def slates(draw: st.DrawFn) -> tuple[Items, list[dict[str, Any]]]:
    """Items by column, and what each of them is as JSON."""
    names = tuple(draw(st.lists(texts, max_size=3, unique=True)))
    members = draw(st.sampled_from([NUMBERS, (*NUMBERS, "expected_watch_time_s")]))
    row = st.tuples(ids, st.tuples(*[numbers] * (len(members) + len(names))), explanations)
    rows = draw(st.lists(row, min_size=1, max_size=12))
    explained = draw(st.booleans())
    columns = np.array([values for _, values, _ in rows], np.float32).T
    items = Items(
        [video_id for video_id, _, _ in rows],
        members,
        names,
        np.rint(columns.astype(np.float64) * 1e6),
        [explanation for *_, explanation in rows] if explained else None,
    )
    rounded = columns.astype(np.float64).round(6).T.tolist()
    want = [
        Item(
            video_id=video_id,
            rank=rank,
            objectives=dict(zip(names, values[len(members) :], strict=True)),
            explanation=why if explained else None,
            **dict(zip(members, values[: len(members)], strict=True)),
        )
        for rank, ((video_id, _, why), values) in enumerate(zip(rows, rounded, strict=True), 1)
    ]
    return items, json.loads(msgspec.json.encode(want))


@given(slates())
def test_items_are_to_the_last_digit_what_an_encoder_of_objects_writes(
    slate: tuple[Items, list[dict[str, Any]]],
) -> None:
    items, want = slate
    found = items.encode()
    assert json.loads(found) == want
    assert msgspec.json.decode(found, type=list[Item]) == msgspec.convert(want, list[Item])


def test_a_slate_of_thousands_has_every_rank_once() -> None:
    count = 12_345
    millionths = np.arange(3 * count, dtype=np.float64).reshape(3, count)
    items = json.loads(Items([str(i) for i in range(count)], NUMBERS, (), millionths, None).encode())
    assert [item["rank"] for item in items] == list(range(1, count + 1))
    assert [item["watch_ratio"] for item in items] == [(2 * count + i) / 1e6 for i in range(count)]
