"""Guess from names and values which column is which, and in what unit; what is unclear is asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, cast

from models.errors import BadInput
from models.schema import Video
from training.data.own_log._files import Relation, first_row
from training.data.own_log._mapping import TIMES, USERS, Source, Unit, units_of
from training.data.own_log._values import FACTORS, flag, is_clock, is_several, number, text, vector

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "user_id": ("user", "userid", "uid", "member", "viewer", "visitor", "account", "customer", "device"),
    "video_id": (
        "video", "videoid", "vid", "item", "itemid", "iid", "content", "photo", "post", "feed", "clip",
        "media", "movie",
    ),
    "timestamp_ms": (
        "timestamp", "ts", "time", "datetime", "starttime", "startedat", "servertime", "loggedat",
        "createdat", "at", "date",
    ),
    "watch_time_s": (
        "watchtime", "watched", "watch", "watchduration", "playtime", "played", "play", "playduration",
        "playingtime", "viewtime", "viewed", "dwelltime", "dwell", "timespent", "staytime",
    ),
    "duration_s": (
        "duration", "videoduration", "videolength", "length", "itemduration", "contentduration",
        "mediaduration", "clipduration", "runtime",
    ),
    "like": ("like", "liked", "likes", "thumbsup", "thumbup"),
    "follow": ("follow", "followed", "follows", "subscribe", "subscribed"),
    "comment": ("comment", "commented", "comments"),
    "forward": ("forward", "forwarded", "share", "shared", "shares", "repost", "reposted"),
    "hate": ("hate", "hated", "dislike", "disliked", "dislikes", "notinterested", "thumbsdown", "thumbdown"),
    "profile_enter": ("profileenter", "profilevisit", "profileview", "clickavatar", "enterprofile"),
    "tab": ("tab", "surface", "scene", "page", "feedtype", "placement"),
    "author_id": ("author", "creator", "uploader", "publisher", "channel", "owner"),
    "tag": ("tag", "category", "genre", "topic", "tags", "hashtag"),
}  # fmt: skip
"""What columns are often called, without units and `_FILLERS`; the likeliest names first."""

NAMES_OF_SIGNALS: Final[dict[str, tuple[str, ...]]] = {
    "positive.favorite": (
        "favorite", "favorited", "favourite", "favourited", "fav", "faved", "bookmark", "bookmarked",
        "collect", "collected",
    ),
    "positive.save": ("save", "saved", "saves"),
    "positive.download": ("download", "downloaded"),
    "negative.report": ("report", "reported", "complaint", "complained"),
    "negative.block": ("block", "blocked", "mute", "muted"),
}  # fmt: skip
"""The same of signals beyond the six flags that many platforms have."""

_UNITS: Final[dict[str, Unit]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "micros", "microseconds"), "us"),
    **dict.fromkeys(("min", "mins", "minutes"), "min"),
}
_FILLERS: Final = frozenset(("id", "is", "has", "unix", "epoch", "utc", "event", "total"))
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W_A-Za-z]+")

_FEATURE: Final = re.compile(r"\W+")
"""What the name of a feature does not hold."""
MAX_CATEGORIES: Final = 1_000
"""Text with more values in a sample says who a user is, not of what kind."""

_THOUSANDS: Final[tuple[Unit, ...]] = ("s", "ms", "us")
"""Units of lengths that values show; minutes are too close to seconds."""
_PLAUSIBLE_S: Final = (2.0, 1_800.0)
"""Median durations of short videos; less than a factor of 1,000, so that at most one unit fits."""
_PLAUSIBLE_RATIO: Final = (0.02, 5.0)
"""Median watch ratios, narrower than a factor of 1,000 for the same reason."""
_EPOCH_S: Final = (946_684_800.0, 4_102_444_800.0)
"""2000 to 2100."""
_MOST: Final = 0.9
"""Share of a sample's values that must be of a kind."""
_SOME: Final = 0.1
"""Share of a sample's values that must hold several texts."""
_FEATURE_OF_VIDEOS: Final = re.compile(r"[^A-Za-z0-9_]+")


def guess_columns(
    columns: Sequence[str], targets: Collection[str], used: Collection[str]
) -> dict[str, Source]:
    """Guess which of a table's columns are which of ours.

    Args:
        columns: the table's.
        targets: ours that are looked for, of `NAMES` or `NAMES_OF_SIGNALS`.
        used: the table's that are something else already.

    Raises:
        BadInput: two columns are as likely.
    """
    free = [column for column in columns if column not in used]
    found: dict[str, Source] = {}
    for target in targets:
        ranks = {column: rank for column in free if (rank := _rank(column, target)) is not None}
        likeliest = [column for column, rank in ranks.items() if rank == min(ranks.values())]
        if len(likeliest) > 1:
            raise BadInput(
                f"{' and '.join(map(repr, likeliest))} may both be {target}; "
                f"choose one: --map {target}={likeliest[0]}."
            )
        if likeliest:
            found[target] = Source(columns=(likeliest[0],))
            free.remove(likeliest[0])
    return found


def guess_clock(columns: Sequence[str], sample: Relation) -> Source | None:
    """Return the column whose values are `watched/length`, such as `00:04/02:01`, if there is one."""
    for column in columns:
        source = Source(columns=(column,), unit="clock")
        value = text(source)
        shares = sample.aggregate(f"avg(CAST({is_clock(value)} AND contains({value}, '/') AS DOUBLE))")
        share = (first_row(shares) or (None,))[0]
        if share is not None and share >= _MOST:
            return source
    return None


def guess_unit(target: str, source: Source, sample: Relation, duration_s: float | None = None) -> Unit:
    """Guess the unit of a column's values.

    Args:
        target: our column.
        source: what it is read from.
        sample: rows of the table.
        duration_s: the median duration of the log, which a watch time is compared with.

    Raises:
        BadInput: more than one unit is plausible, or none.
    """
    units = units_of(target)
    kind, dot, _ = target.partition(".")
    if dot and kind == USERS:
        return "id"
    if "vector" in units:
        guessed = guess_features_of_videos(source.columns[:1], sample)
        return next((of.unit for of in guessed.values() if of.unit), "id")
    if "flag" in units:
        return _unit_of_flag(source, sample)
    if len(units) == 1:
        return units[0]
    if "ids" in units:
        return "ids" if holds_several(source, sample) else "id"
    known = sample.project(f"{text(source)} AS value").filter("value IS NOT NULL")
    counts = f"count(*), count({number('value')}), count(*) FILTER ({is_clock('value')})"
    rows, numbers, clocks = cast(tuple[int, int, int], first_row(known.aggregate(counts)))
    if target == "timestamp_ms":
        if numbers < _MOST * rows or not rows:
            return "datetime"
        return _unit_of_time(source, _median(known))
    if clocks >= _MOST * rows:
        return "clock"
    named = [_UNITS[word] for name in source.columns for word in _words(name) if word in _UNITS]
    if named:
        return named[-1]
    median = _median(known.filter(f"{number('value')} > 0"))
    least, most = _PLAUSIBLE_S if duration_s is None else (r * duration_s for r in _PLAUSIBLE_RATIO)
    likely = [unit for unit in _THOUSANDS if least <= median * FACTORS[unit] <= most]
    if not likely:
        raise BadInput(
            f"the unit of {target} in {str(source)!r} is unclear: the median is {median:,.6g}; "
            f"give it: --map {target}={source}:s, or :ms, :us, :min."
        )
    return likely[0]


def guess_features(columns: Sequence[str], sample: Relation) -> dict[str, Source]:
    """Return the columns that are features of users: numbers, or text of few enough values for a category."""
    found: dict[str, Source] = {}
    for column in columns:
        source = Source(columns=(column,))
        known = sample.project(f"{text(source)} AS value").filter("value IS NOT NULL")
        counts = f"count(*), count({number('value')}), count(DISTINCT value)"
        rows, numbers, values = cast(tuple[int, int, int], first_row(known.aggregate(counts)))
        if rows and numbers >= _MOST * rows:
            found[_FEATURE.sub("_", column)] = source.model_copy(update={"unit": "number"})
        elif rows and values <= MAX_CATEGORIES:
            found[_FEATURE.sub("_", column)] = source.model_copy(update={"unit": "id"})
    return found


def guess_features_of_videos(columns: Sequence[str], sample: Relation) -> dict[str, Source]:
    """Return the columns that are features of videos: embeddings, lists of texts, and what `guess_features`
    takes."""
    found: dict[str, Source] = {}
    others = []
    for column in columns:
        source = Source(columns=(column,))
        value = text(source)
        if _share(f"{is_several(value)} AND {vector(value)} IS NOT NULL", source, sample) >= _MOST:
            found[name_of_feature(column)] = source.model_copy(update={"unit": "vector"})
        elif holds_several(source, sample):
            found[name_of_feature(column)] = source.model_copy(update={"unit": "ids"})
        else:
            others.append(column)
    plain = guess_features(others, sample)
    found |= {name_of_feature(source.columns[0]): source for source in plain.values()}
    return {name: source for name, source in found.items() if name not in Video.__struct_fields__}


def name_of_feature(column: str) -> str:
    """Return the name of the feature that a column of the table of videos becomes."""
    name = _FEATURE_OF_VIDEOS.sub("_", column)[:50]
    return name if name[:1].isalpha() else f"feature_{name}"


def holds_several(source: Source, sample: Relation) -> bool:
    """Whether some values of a column hold several texts."""
    return _share(is_several(text(source)), source, sample) >= _SOME


def _share(condition: str, source: Source, sample: Relation) -> float:
    known = sample.filter(f"{text(source)} IS NOT NULL").aggregate(f"avg(CAST(({condition}) AS DOUBLE))")
    return float((first_row(known) or (0,))[0] or 0.0)


def _unit_of_time(source: Source, median: float) -> Unit:
    for unit in TIMES[:-1]:
        if _EPOCH_S[0] <= median * FACTORS[unit] <= _EPOCH_S[1]:
            return unit
    raise BadInput(
        f"{str(source)!r} is no time since 1970 in any unit: its median is {median:,.6g}; "
        "choose another column: --map timestamp_ms=COLUMN."
    )


def _unit_of_flag(source: Source, sample: Relation) -> Unit:
    """A time at which something was done, such as `liked_at`, says that it was."""
    value = text(source)
    known = sample.filter(f"{value} IS NOT NULL")
    plain = f"avg(CAST(({flag(source)}) IS NOT NULL AS DOUBLE)), max({number(value)})"
    share, largest = first_row(known.aggregate(plain)) or (None, None)
    odd = share is not None and share < 1 - _MOST
    return "present" if odd or (largest or 0) > _EPOCH_S[0] else "flag"


def _median(values: Relation) -> float:
    row = first_row(values.aggregate(f"median({number('value')})"))
    return float("nan") if row is None or row[0] is None else float(row[0])


def _words(column: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(column)]


def _rank(column: str, target: str) -> int | None:
    """How likely a column is one of ours: 0 is the likeliest; `None`: not at all."""
    if column == target.rpartition(".")[2]:
        return 0
    names = NAMES[target] if target in NAMES else NAMES_OF_SIGNALS[target]
    bare = "".join(word for word in _words(column) if word not in _UNITS and word not in _FILLERS)
    return names.index(bare) + 1 if bare in names else None
