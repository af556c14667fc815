"""`mapping.json`: which column of a log of one's own is which column of ours, and in what unit it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from models.errors import BadInput
from models.schema import FLAGS
from models.signals import Signals
from models.video_features import VideoFeatures

MAPPING: Final = "mapping.json"

REQUIRED: Final = ("user_id", "video_id", "timestamp_ms", "watch_time_s", "duration_s")
"""`duration_s` may come from the table of videos."""
OF_VIDEOS: Final = ("author_id", "tag")
"""May come from the table of videos, too."""
TARGETS: Final = (*REQUIRED, *FLAGS, "tab", *OF_VIDEOS)
"""The columns of `interactions.parquet` that every log has."""
SIGNALS: Final = ("positive", "negative", "numbers")
"""The kinds of own signals, see `models.signals.Signals`; a signal is written `positive.favorite`."""
USERS: Final = "users"
"""Features of users are written `users.age`."""
VIDEOS: Final = "videos"
"""Features of videos are written `videos.quality`."""
COLUMNS_OF_VIDEOS: Final = ("video_id", "duration_s", *OF_VIDEOS)
"""Of a table of videos; others are features."""

Unit = Literal[
    "id", "ids", "s", "ms", "us", "ns", "min", "datetime", "clock", "flag", "present", "number", "vector"
]
TIMES: Final[tuple[Unit, ...]] = ("s", "ms", "us", "ns", "datetime")
LENGTHS: Final[tuple[Unit, ...]] = ("s", "ms", "us", "min", "clock")
MEANINGS: Final[dict[Unit, str]] = {
    "id": "text",
    "ids": "texts, one or several",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "datetime": "a date and time",
    "clock": "minutes:seconds, `watched/length` where there are two",
    "flag": "yes or no, or a count",
    "present": "yes where there is a value",
    "number": "a number",
    "vector": "the numbers of an embedding",
}


def units_of(target: str) -> tuple[Unit, ...]:
    """Return the units in which the values of one of our columns may be given."""
    if target == "timestamp_ms":
        return TIMES
    if target in ("watch_time_s", "duration_s"):
        return LENGTHS
    kind, _, name = target.partition(".")
    if kind == VIDEOS:
        return units_of(name) if name in COLUMNS_OF_VIDEOS else ("number", "id", "ids", "vector")
    if target == "tag":
        return ("id", "ids")
    if kind == "numbers":
        return ("number",)
    if kind == USERS:
        return ("number", "id")
    return ("flag", "present") if target in FLAGS or kind in SIGNALS else ("id",)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Record):
    """Columns of a file that one of our columns is read from, written `column`, `column|column` or
    `column:unit`."""

    columns: tuple[str, ...] = Field(min_length=1)
    """Of several, a flag takes any that is set, everything else the first that is not empty."""
    unit: Unit | None = None
    """`None`: guess it from names and values."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        head, _, tail = value.rpartition(":")
        columns, unit = (head, tail) if head and tail in get_args(Unit) else (value, None)
        return {"columns": columns.split("|"), "unit": unit}

    @model_serializer(mode="wrap")
    def _to_text(self, members: SerializerFunctionWrapHandler) -> Any:
        text = str(self) if self.unit in (None, "id") else f"{self}:{self.unit}"
        expected = self if self.unit != "id" else self.model_copy(update={"unit": None})
        return text if Source.model_validate(text) == expected else members(self)

    def __str__(self) -> str:
        return "|".join(self.columns)


class ColumnMapping(_Record):
    """The file `mapping.json`: for each table, our columns and what they are read from."""

    interactions: dict[str, Source] = {}
    videos: dict[str, Source] = {}
    """`video_id`; what a row of the log does not say itself: `duration_s`, `author_id`, `tag`; and features:
    numbers, texts for categories, and embeddings."""
    users: dict[str, Source] = {}
    """`user_id`, and features: numbers, and text for categories."""
    positive: dict[str, Source] = {}
    negative: dict[str, Source] = {}
    numbers: dict[str, Source] = {}
    """Own signals, from columns of the log."""
    utc_offset_hours: float = Field(0.0, ge=-14, le=14)
    """How far the log's days, and its dates without a time zone, are ahead of UTC."""
    main_tab: str | None = None
    """The feed in which watch time is fitted and evaluated; `None`: all rows."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            BadInput: it cannot be read, or names a column or a unit that does not exist.
        """
        try:
            mapping = cls.model_validate_json(path.read_bytes())
        except ValidationError as e:
            where = ".".join(str(part) for part in e.errors()[0]["loc"])
            raise BadInput(f"{path} is not a mapping: `{where}`: {e.errors()[0]['msg']}.") from e
        except OSError as e:
            raise BadInput(f"{path} cannot be read: {e.strerror}; give the mapping of an earlier run.") from e
        for target, source in mapping.interactions.items():
            _check(f"{path}: interactions", target, source.unit, TARGETS)
        features = {f"{USERS}.{name}": source for name, source in mapping.users.items() if name != "user_id"}
        features |= {f"{VIDEOS}.{name}": source for name, source in mapping.videos.items()}
        for target, source in (mapping.signal_sources() | features).items():
            _check(str(path), target, source.unit, ())
        mapping.signals(str(path))
        mapping.video_features(source=str(path))
        return mapping

    def signal_sources(self) -> dict[str, Source]:
        """Return the sources of the signals, by names such as `positive.favorite`."""
        return {f"{kind}.{name}": source for kind in SIGNALS for name, source in getattr(self, kind).items()}

    def signals(self, source: str = MAPPING) -> Signals:
        """Return the signals that are declared.

        Args:
            source: what declares them, for the message.

        Raises:
            BadInput: a name is none, or taken.
        """
        try:
            return Signals(**{kind: tuple(getattr(self, kind)) for kind in SIGNALS})
        except ValidationError as e:
            raise BadInput(f"{source}: {e.errors()[0]['msg'].removeprefix('Value error, ')}.") from e

    def video_features(self, widths: Mapping[str, int] | None = None, source: str = MAPPING) -> VideoFeatures:
        """Return the features of videos that are declared.

        Args:
            widths: components of each embedding; without them only names are checked.
            source: what declares them, for the message.

        Raises:
            BadInput: a name is none, or taken, or there are too many.
        """
        sources = {name: of for name, of in self.videos.items() if name not in COLUMNS_OF_VIDEOS}
        named = [name for name, of in sources.items() if of.unit == "vector"]
        try:
            return VideoFeatures(
                numbers=tuple(name for name, of in sources.items() if of.unit == "number"),
                categories=tuple(n for n, of in sources.items() if of.unit not in ("number", "vector")),
                embeddings=dict.fromkeys(named, 1) if widths is None else {n: widths[n] for n in named},
            )
        except ValidationError as e:
            raise BadInput(f"{source}: {e.errors()[0]['msg'].removeprefix('Value error, ')}.") from e

    def with_changes(self, changes: Sequence[str]) -> Self:
        """Return the mapping with the changes of `--map`.

        Args:
            changes: `target=` and a `Source` as text, several of them separated by commas; nothing after the
                equals sign leaves the target out.

        Raises:
            BadInput: a change is spelled differently, or names a column or a unit that does not exist.
        """
        found = {kind: dict(getattr(self, kind)) for kind in ("interactions", *SIGNALS, USERS, VIDEOS)}
        for change in (part.strip() for changed in changes for part in changed.split(",")):
            target, equals, column = (part.strip() for part in change.partition("="))
            if not equals:
                raise BadInput(f"--map {change!r} is not OURS=YOURS, such as user_id=uid.")
            source = Source.model_validate(column) if column else None
            _check("--map", target, source.unit if source else None, TARGETS)
            kind, dot, name = target.partition(".")
            ours, name = (found[kind], name) if dot else (found["interactions"], target)
            ours.pop(name, None)
            if source:
                ours[name] = source
        changed_mapping = self.model_copy(update=found)
        changed_mapping.signals("--map")
        changed_mapping.video_features(source="--map")
        return changed_mapping


def left_out(changes: Sequence[str]) -> set[str]:
    """Return the targets that `--map target=` leaves out."""
    parts = (part.strip().partition("=") for changed in changes for part in changed.split(","))
    return {target.strip() for target, _, column in parts if not column.strip()}


def _check(source: str, target: str, unit: str | None, targets: Sequence[str]) -> None:
    if target not in targets and target.partition(".")[0] not in (*SIGNALS, USERS, VIDEOS):
        raise BadInput(
            f"{source}: there is no column {target!r} of ours; there are {', '.join(targets)}, your own "
            "signals as positive.NAME, negative.NAME or numbers.NAME, and features as users.NAME or "
            "videos.NAME."
        )
    if unit is not None and unit not in units_of(target):
        raise BadInput(
            f"{source}: {target} cannot be in {unit!r}; give one of {', '.join(units_of(target))}."
        )
