"""A ranked slate as the reply of POST /rerank, by columns: an object for each item costs more than its bytes.

The items are rows of one matrix of bytes. Between constant keys it has a field of fixed width for each
number, with blanks and zeros where a number is shorter.

Shape suffixes: M items, C columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from models.arrays import F32, F64
from models.manifest import EXPECTED_SECONDS
from models.metrics import STATES
from service.pipeline.influence import Influences
from service.pipeline.ranking import Explanation
from service.pipeline.rerank import RankedSlate
from service.telemetry.trace import Trace
from service.wire import Anchor, Influence, InfluencedItem, InfluenceReply, Item, ItemExplanation, RerankReply

MILLION: Final = 1_000_000
"""Numbers of a reply are whole millionths: float32 holds no more, and the text is half as long."""

NUMBERS: Final = ("score", "watch_time_s", "watch_ratio")
"""Columns before those of the objectives; behind them is the mean, if the bundle has it."""

_NEXT: Final = b'},{"video_id":"'

_HIGH: Final = np.array([b"%d.%03d" % divmod(i, 1000) for i in range(10_000)], "S8").view(np.uint64)
_LOW: Final = np.array([b"\0\0\0\0\0%03d" % i for i in range(1000)], "S8").view(np.uint64)
_TENS: Final = np.array([b"%4d" % i if i else b"    " for i in range(10_000)], "S4").view(np.uint32)
"""`0.000` to `9.999`, the three digits behind it, and what is before it from 10 on."""

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Items:
    """The best candidates of a slate, best first, by column."""

    video_id: list[str]
    numbers: tuple[str, ...]
    """Members of an item."""
    objectives: tuple[str, ...]
    """Members of its `objectives`."""
    millionths: F64
    """`[C, M]` whole numbers; `numbers`, then the objectives."""
    explanations: list[ItemExplanation] | None
    propensities: list[float] | None = None

    @classmethod
    def from_ranked(cls, ranked: RankedSlate) -> Items:
        """Return the items that a query asks for: the best `top_k`, or all that rules have left."""
        slate, objectives = ranked.slate, ranked.objectives
        arrangement, length = ranked.arrangement, ranked.query.top_k
        order = (slate.order if arrangement is None else arrangement.order)[:length]
        explored = None if arrangement is None else arrangement.explored
        numbers = (*NUMBERS, EXPECTED_SECONDS) if EXPECTED_SECONDS in slate.names else NUMBERS
        rows = [slate.names.index(name) for name in (*numbers[1:], *objectives)]
        predictions = slate.predictions if len(rows) == len(slate.names) else slate.predictions[rows]
        return cls(
            list(map(ranked.context.candidates.video_id.__getitem__, order.tolist())),
            numbers,
            objectives,
            _millionths(np.concatenate((slate.score[None], predictions)).take(order, axis=1)),
            None if slate.explanation is None else _explanations(slate.explanation, order),
            None if explored is None else explored.propensity[:length].tolist(),
        )

    def values(self) -> dict[str, list[float]]:
        """Return the columns by name."""
        rows = (self.millionths / MILLION).tolist()
        return dict(zip((*self.numbers, *self.objectives), rows, strict=True))

    def encode(self) -> bytes:
        """Return the items as a JSON array of `service.wire.Item`."""
        if not self.video_id:  # rules have left all of them out
            return b"[]"
        rows = _encode_numbers(_keys(self.numbers, self.objectives), self.millionths)
        if self.explanations is not None:
            rows = _with_member(rows, b"explanation", map(_encode, self.explanations))
        if self.propensities is not None:
            rows = _with_member(rows, b"propensity", _encode(self.propensities)[1:-1].split(b","))
        rows[-1] = rows[-1].removesuffix(_NEXT) + b"}]"
        # Within a text of JSON every quote has a backslash before it, so this separates the ids only.
        ids = _encode(self.video_id)[2:-2].split(b'","')
        return b'[{"video_id":"' + b"".join(chain.from_iterable(zip(ids, rows, strict=True)))


def encode_reply(ranked: RankedSlate, trace: Trace) -> bytes:
    """Return the reply to a query.

    Args:
        ranked: the slate.
        trace: of the request: its id stands in where the query has none.
    """
    query, arrangement = ranked.query, ranked.arrangement
    reply = RerankReply(
        request_id=query.request_id if query.request_id is not None else trace.request_id,
        items=cast("list[Item]", msgspec.Raw(Items.from_ranked(ranked).encode())),
        model_version=ranked.bundle.manifest.version,
        degraded=ranked.degraded,
        warnings=[
            f"Candidate {video_id!r} is named more than once; ranked once." for video_id in ranked.repeated
        ],
        history_length=ranked.slate.history_length,
        took_ms=trace.took_ms(),
        applied=msgspec.UNSET if arrangement is None or arrangement.applied is None else arrangement.applied,
        experiment=msgspec.UNSET if ranked.assigned is None else ranked.assigned.experiment,
        arm=msgspec.UNSET if ranked.assigned is None else ranked.assigned.arm.name,
        explored=msgspec.UNSET if arrangement is None or arrangement.explored is None else True,
    )
    return _encode(reply)


def influence_reply(ranked: RankedSlate, found: Influences, trace: Trace) -> InfluenceReply:
    """Return what the scores of a slate rest on.

    Args:
        ranked: the slate.
        found: of its candidates.
        trace: of the request.
    """
    score, seconds = _rounded(found.score), _rounded(found.watch_time_s)
    exposures = ranked.context.exposures.newest(len(found.added_score))
    steps = list(zip(exposures.video_id, exposures.timestamp_ms.tolist(), strict=True))
    columns = zip(_rounded(found.added_score.T), _rounded(found.added_s.T), strict=True)
    by_candidate = [
        [Influence(*step, *added) for step, *added in zip(steps, *column, strict=True)] for column in columns
    ]
    videos = ranked.context.candidates.video_id
    items = [
        InfluencedItem(videos[i], score[i], seconds[i], by_candidate[i]) for i in ranked.slate.order.tolist()
    ]
    return InfluenceReply(items, ranked.bundle.manifest.version, ranked.degraded, trace.took_ms())


def _with_member(rows: list[bytes], name: bytes, values: Iterable[bytes]) -> list[bytes]:
    """Return the texts of items with one more member, whose values are JSON already."""
    begin, behind = b',"%s":' % name, -len(_NEXT)
    return [row[:behind] + begin + value + _NEXT for row, value in zip(rows, values, strict=True)]


def _encode_numbers(keys_and_end: tuple[bytes, ...], millionths_CM: F64) -> list[bytes]:
    """Return the text of each item from the end of its id to the beginning of the next id.

    A number is a digit and six decimals, as one word; from 10 on its tens are before it. One below 0 or above
    100,000 comes from a faulty graph only, and is written as long as it is.
    """
    with np.errstate(invalid="ignore"):  # above what int64 holds
        whole = millionths_CM.astype(np.int64)
    largest = whole.view(np.uint64).max(axis=1).tolist()  # so read, a negative number is above all others
    tens = whole // (10 * MILLION)
    rest = whole - tens * (10 * MILLION)
    thousands = rest // 1000
    words = _HIGH[thousands] | _LOW[rest - thousands * 1000]
    *keys, end = keys_and_end
    constants: list[bytes] = []
    fields: list[npt.NDArray[Any]] = []
    for column, key in enumerate(keys):
        constants.append(key)
        if largest[column] >= 100_000 * MILLION:
            texts = _encode((millionths_CM[column] / MILLION).tolist())[1:-1].split(b",")
            fields.append(np.char.ljust(texts, max(map(len, texts))))
            continue
        if largest[column] >= 10 * MILLION:
            fields.append(_TENS[tens[column]])
            constants.append(b"")
        fields.append(words[column])
    kinds = tuple(field.dtype.str for field in fields)
    without_numbers, layout = _rows_without_numbers((*constants, end), kinds, len(fields[0]))
    rows = without_numbers.copy()
    numbers = rows.view(layout)[:, 0]
    for name, field in zip(layout.names or (), fields, strict=True):
        numbers[name] = field
    encoded: list[bytes] = rows.view(f"S{layout.itemsize}")[:, 0].tolist()
    return encoded


@lru_cache(maxsize=16)
def _rows_without_numbers(
    constants: tuple[bytes, ...], kinds: tuple[str, ...], count: int
) -> tuple[npt.NDArray[np.uint8], np.dtype[np.void]]:
    """Lay items out that have everything but their numbers.

    Args:
        constants: what stands before, between and behind the fields.
        kinds: of the fields.
        count: of the items, which are ranked from 1.

    Returns:
        Their bytes `[count, width]`, and the type of a row, with the fields in their places.
    """
    digits = len(str(count))
    text, offsets = b'","rank":' + b" " * digits, []
    for constant, kind in zip(constants, kinds, strict=False):
        offsets.append(len(text) + len(constant))
        text += constant + b" " * np.dtype(kind).itemsize
    text += constants[-1]
    rows = np.tile(np.frombuffer(text, np.uint8), (count, 1))
    ranks = np.char.rjust(np.arange(1, count + 1).astype(f"S{digits}"), digits)
    rows[:, 9 : 9 + digits] = ranks.view(np.uint8).reshape(count, digits)
    names = [str(index) for index in range(len(kinds))]
    layout: Any = {"names": names, "formats": kinds, "offsets": offsets, "itemsize": len(text)}
    return rows, np.dtype(layout)


@lru_cache(maxsize=64)  # callers choose the names
def _keys(numbers: tuple[str, ...], objectives: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return what is written before each number of an item, and behind the last one."""
    keys = [b',"%s":' % name.encode() for name in numbers]
    opening = b',"objectives":{'
    for name in objectives:
        keys.append(opening + _encode(name) + b":")
        opening = b","
    return (*keys, (b"" if objectives else opening) + b"}" + _NEXT)


def _explanations(explanation: Explanation, order: npt.NDArray[np.intp]) -> list[ItemExplanation]:
    names = tuple(explanation.parts)
    states: Iterable[list[float] | None] = repeat(None, len(order))
    if explanation.states is not None:
        states = _rounded(explanation.states[order])
    parts = zip(*(_rounded(x[order]) for x in explanation.parts.values()), strict=True)
    rows = zip(
        parts,
        _rounded(explanation.anchor_ratio[order]),
        _rounded(explanation.anchor_weights[order]),
        _rounded(explanation.quantiles_s[order]),
        states,
        strict=True,
    )
    return [
        ItemExplanation(
            parts=dict(zip(names, part, strict=True)),
            anchors=list(map(Anchor, ratios, weights)),
            watch_time_s={"p10": p10, "p50": p50, "p90": p90},
            states=None if state is None else dict(zip(STATES, state, strict=True)),
        )
        for part, ratios, weights, (p10, p50, p90), state in rows
    ]


def _rounded(x: F32) -> list[Any]:
    rounded: list[Any] = (_millionths(x) / MILLION).tolist()
    return rounded


def _millionths(x: F32) -> F64:
    return np.rint(x.astype(np.float64) * MILLION)
