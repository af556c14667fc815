"""Rules of a slate, as pure steps: leave candidates out, change the values that sort, limit groups, pin.

A step returns what it did as `Applied`. An unknown author or tag belongs to no group: it never counts as one
author. Equal values keep the caller's order.

Shape suffixes: N candidates, M of them that are neither left out nor pinned.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import F64
from models.errors import Invalid
from models.features import Candidates
from service.pipeline.ranking import RankingContext
from service.slate_rules import Applied, FreshBoost, Rules

Indices = npt.NDArray[np.intp]

SAME_TAG: Final = 0.5
"""Similarity of two videos of one tag and different authors; of one author it is 1."""

HOUR_MS: Final = 3_600_000


class Groups(NamedTuple):
    """The author and the tag of each candidate as a number `[N]`: the index of the first that has it, too."""

    author: Indices
    tag: Indices
    unknown: Mapping[str, str]
    """By `author` and `tag`: a note on how many of all candidates have an unknown one."""

    @classmethod
    def from_candidates(cls, candidates: Candidates) -> Groups:
        """Return the groups of all candidates."""
        columns = {"author": candidates.author_id, "tag": candidates.tag}
        counts = {name: column.count(None) for name, column in columns.items()}
        notes = {name: f"; the {name} of {n} is unknown" if n else "" for name, n in counts.items()}
        return cls(_numbered(candidates.author_id), _numbered(candidates.tag), notes)

    def take(self, indices: Indices) -> Groups:
        """Return the groups of some candidates."""
        return Groups(self.author[indices], self.tag[indices], self.unknown)


def _numbered(names: Sequence[str | None]) -> Indices:
    """Return for each name the index of the first that is equal; an unknown one is equal to no other."""
    first: dict[str | None, int] = {}
    size = len(names)
    numbers = np.fromiter(map(first.setdefault, names, range(size)), np.intp, size)
    if None in first:
        numbers = np.where(numbers == first[None], np.arange(size), numbers)
    return numbers


def check_pins(pins: Mapping[str, int], videos: Collection[str], top_k: int | None) -> None:
    """Check that pins name candidates and positions of the slate.

    Raises:
        Invalid: one does not.
    """
    length = len(videos) if top_k is None else min(top_k, len(videos))
    for video_id, position in pins.items():
        if video_id not in videos:
            raise Invalid(f"`rules.pin` names {video_id!r}, which is no candidate.", loc="rules.pin")
        if position > length:
            raise Invalid(
                f"`rules.pin` puts {video_id!r} at position {position} of a slate of {length}; it must be "
                f"1 to {length}.",
                loc="rules.pin",
            )


def exclude(rules: Rules, context: RankingContext, *, has_history: bool) -> tuple[list[int], list[Applied]]:
    """Apply `exclude_seen` and `exclude_hated`.

    Args:
        rules: of the request.
        context: candidates, and the exposures that the store holds of the user.
        has_history: whether the store could be read.

    Returns:
        Indices of the candidates that stay, and what the rules did.
    """
    video_ids, exposures = context.candidates.video_id, context.exposures
    stays = list(range(len(video_ids)))
    applied: list[Applied] = []
    note = "" if has_history else "; the store was unavailable, so nothing is known of the user"
    if rules.exclude_seen:
        seen = {*exposures.video_id, *context.imported.video_id}
        before, stays = len(stays), [i for i in stays if video_ids[i] not in seen]
        applied.append(
            _applied("exclude_seen", before - len(stays), before, "left out", f"seen by the user{note}")
        )
    if rules.exclude_hated is not None:
        hated = exposures.hated()
        videos = {exposures.video_id[i] for i in hated}
        before, stays = len(stays), [i for i in stays if video_ids[i] not in videos]
        reason = "hated by the user"
        if rules.exclude_hated == "author":
            authors, author_ids = (
                {exposures.author_id[i] for i in hated} - {None},
                context.candidates.author_id,
            )
            stays = [i for i in stays if author_ids[i] not in authors]
            reason += ", or of an author of such a video"
        applied.append(_applied("exclude_hated", before - len(stays), before, "left out", reason + note))
    return stays, applied


def adjust(
    rules: Rules, values_M: F64, groups: Groups, published_ms: Sequence[int | None], now_ms: int
) -> tuple[F64, list[Applied]]:
    """Apply `fresh_boost`, `author_decay` and `diversity`.

    Args:
        rules: of the request.
        values_M: scores.
        groups: of the same candidates.
        published_ms: of the same candidates; not read without `fresh_boost`.
        now_ms: the moment of the ranking.

    Returns:
        What sorts in place of the scores, `[M]`, and what the rules did.
    """
    applied: list[Applied] = []
    size = len(values_M)
    if rules.fresh_boost is not None:
        factor, unknown = _freshness(rules.fresh_boost, published_ms, now_ms)
        values_M = values_M * factor
        reason = f"published within {rules.fresh_boost.hours:g} h"
        reason += f"; the publication time of {unknown} is unknown" if unknown else ""
        applied.append(_applied("fresh_boost", int(np.count_nonzero(factor > 1)), size, "raised", reason))
    if rules.author_decay is not None:
        order = np.argsort(-values_M, kind="stable")
        better = np.empty(size, np.intp)
        better[order] = earlier_of_group(groups.author[order])
        values_M = values_M * rules.author_decay**better
        reason = f"not the best of its author{groups.unknown['author']}"
        applied.append(_applied("author_decay", int(np.count_nonzero(better)), size, "lowered", reason))
    if rules.diversity is not None:
        values_M, lowered = marginal_relevance(values_M, groups, rules.diversity)
        reason = f"behind one of the same author or tag{groups.unknown['author']}{groups.unknown['tag']}"
        applied.append(_applied("diversity", lowered, size, "lowered", reason))
    return values_M, applied


def _freshness(boost: FreshBoost, published_ms: Sequence[int | None], now_ms: int) -> tuple[F64, int]:
    """Return the factors `[M]`, and of how many videos the publication time is unknown."""
    age_h = (now_ms - np.array(published_ms, np.float64)) / HOUR_MS  # None becomes NaN
    fresh = np.minimum(np.fmax(1 - age_h / boost.hours, 0), 1)  # of NaN 0
    return 1 + boost.weight * fresh, int(np.count_nonzero(np.isnan(age_h)))


def earlier_of_group(numbers: Indices) -> Indices:
    """Return for each element how many of those before it are equal to it."""
    by_group = np.argsort(numbers, kind="stable")
    ordered = numbers[by_group]
    index = np.arange(len(numbers))
    begins = np.zeros_like(index)
    begins[1:] = np.where(ordered[1:] != ordered[:-1], index[1:], 0)
    earlier = np.empty_like(index)
    earlier[by_group] = index - np.maximum.accumulate(begins)
    return earlier


def marginal_relevance(values_M: F64, groups: Groups, diversity: float) -> tuple[F64, int]:
    """Diversify by maximal marginal relevance (Carbonell and Goldstein, 1998).

    The next video is the one with the greatest

        (1 - diversity) · value / greatest value - diversity · max similarity to those before it

    with a similarity of 1 between videos of one author, `SAME_TAG` of one tag, and otherwise 0. So each has
    three possible values. In descending order of the first, a candidate is chosen at once, or waits until
    what is left is worth less than its next one: O(M log M) in place of M².

    Args:
        values_M: what sorts so far.
        groups: of the same candidates.
        diversity: 0 to 1.

    Returns:
        The values with which they are chosen, times the greatest value, `[M]`; and how many have a similar
        one before them.
    """
    size = len(values_M)
    if not size:
        return values_M, 0
    relevance = (1 - diversity) * values_M
    penalty = diversity * values_M.max() * np.array([0, SAME_TAG, 1])
    of_tag, of_author = penalty[1:].tolist()
    authors, tags = groups.author.tolist(), groups.tag.tolist()
    author_is_known, tag_is_known = bytearray(max(authors) + 1), bytearray(max(tags) + 1)
    level_of = [2] * size
    waiting: list[tuple[float, int, int]] = []

    def choose_waiting(worth: float) -> None:
        while waiting and -waiting[0][0] > worth:
            _, _, i = heappop(waiting)
            level_of[i] = 2 if author_is_known[authors[i]] else 1
            author_is_known[authors[i]] = tag_is_known[tags[i]] = 1

    order = np.argsort(-values_M, kind="stable")
    for rank, (i, value) in enumerate(zip(order.tolist(), relevance[order].tolist(), strict=True)):
        if waiting:
            choose_waiting(value)
        author, tag = authors[i], tags[i]
        if author_is_known[author]:
            if not tag_is_known[tag]:
                heappush(waiting, (of_author - value, rank, i))
            # Else both are known: whenever it is chosen, it changes nothing for the others.
        elif tag_is_known[tag]:
            heappush(waiting, (of_tag - value, rank, i))
        else:
            level_of[i] = 0
            author_is_known[author] = tag_is_known[tag] = 1
    choose_waiting(-math.inf)
    return relevance - penalty[level_of], size - level_of.count(0)


def limit(
    rules: Rules, order: Indices, groups: Groups, pinned: Sequence[int]
) -> tuple[Indices, list[Applied]]:
    """Apply `max_per_author` and `max_per_tag` from the top: what one leaves out does not count in the other.

    Args:
        rules: of the request.
        order: candidates, best first.
        groups: of all N candidates.
        pinned: candidates that count, and stay.

    Returns:
        Those of the order that stay, and what the rules did.
    """
    size = len(groups.author)
    of_author = _room(rules.max_per_author or size, groups.author, pinned)
    of_tag = _room(rules.max_per_tag or size, groups.tag, pinned)
    by_author = 0
    stays: list[bool] = []
    for author, tag in zip(groups.author[order].tolist(), groups.tag[order].tolist(), strict=True):
        has_room = of_author[author] and of_tag[tag]
        if has_room:
            of_author[author] -= 1
            of_tag[tag] -= 1
        elif not of_author[author]:
            by_author += 1
        stays.append(has_room > 0)
    remaining = order[stays]
    by_tag = len(order) - len(remaining) - by_author
    applied = []
    for name, most, left_out in (
        ("author", rules.max_per_author, by_author),
        ("tag", rules.max_per_tag, by_tag),
    ):
        if most is not None:
            reason = f"behind {most} of the same {name}{groups.unknown[name]}"
            applied.append(_applied(f"max_per_{name}", left_out, len(order), "left out", reason))
    return remaining, applied


def possible_rounds(
    rules: Rules, order: Indices, remaining: Indices, groups: Groups, pinned: Sequence[int]
) -> Indices:
    """Return of how many of the choices each candidate of an order could have been the result.

    One that was chosen was there until then, another one until its author or its tag had enough.

    Args:
        rules: of the request.
        order: candidates.
        remaining: those of them that `limit` has left.
        groups: of all N candidates.
        pinned: candidates that count.
    """
    choices = np.full(len(groups.author), len(remaining))
    for most, numbers in ((rules.max_per_author, groups.author), (rules.max_per_tag, groups.tag)):
        if most is not None:
            room = np.array(_room(most, numbers, pinned))
            full_after = np.where(room > 0, len(remaining), 0)
            chosen = numbers[remaining]
            fills = np.flatnonzero(earlier_of_group(chosen) + 1 == room[chosen])
            full_after[chosen[fills]] = fills + 1
            choices = np.minimum(choices, full_after[numbers])
    choices[remaining] = np.arange(1, len(remaining) + 1)
    rounds: Indices = choices[order]
    return rounds


def _room(most: int, numbers: Indices, pinned: Sequence[int]) -> list[int]:
    """Return how many each group may have beside the pinned ones."""
    room = [most] * len(numbers)
    for i in pinned:
        room[numbers[i]] = max(room[numbers[i]] - 1, 0)
    return room


def pin(
    order: Sequence[int], positions: Mapping[int, int], missing: Sequence[str], video_ids: Sequence[str]
) -> tuple[list[int], Applied]:
    """Put candidates at their positions, from 1. In a slate that has become shorter they come last.

    Args:
        order: the others.
        positions: by candidate.
        missing: ids that were to be pinned and are left out.
        video_ids: of all candidates.
    """
    out, notes = list(order), [f"{video_id!r} left out by another rule" for video_id in missing]
    for i, position in sorted(positions.items(), key=lambda item: item[1]):
        if position > len(out) + 1:
            notes.append(f"{video_ids[i]!r} at {len(out) + 1} instead of {position}")
        out.insert(position - 1, i)
    asked = len(positions) + len(missing)
    return out, _applied("pin", len(positions), asked, "pinned", "; ".join(notes))


def _applied(rule: str, count: int, size: int, verb: str, reason: str) -> Applied:
    return Applied(rule, count, f"{count} of {size} {verb}{': ' if reason else ''}{reason}")
