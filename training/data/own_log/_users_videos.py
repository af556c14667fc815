"""The tables of users and videos beside a log of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.errors import BadInput
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures
from training.data._tables import ProfileSchema
from training.data.own_log._files import Connection, Relation, TextTable, first_row, quoted
from training.data.own_log._mapping import COLUMNS_OF_VIDEOS, OF_VIDEOS, Source
from training.data.own_log._values import (
    categories,
    category,
    identifier,
    number,
    one_identifier,
    seconds,
    text,
    vector,
)


def catalogue(table: TextTable, sources: Mapping[str, Source]) -> Relation:
    """Return `video_id`, `duration_s`, `author_id`, `tag` and features of each video; of one listed twice the
    largest of each."""

    def column(name: str) -> str:
        return f"{one_identifier(sources[name]) if name in sources else 'CAST(NULL AS VARCHAR)'} AS {name}"

    duration = sources.get("duration_s")
    length = seconds(text(duration), duration.unit or "s", "duration_s") if duration else "NULL"
    features = {name: source for name, source in sources.items() if name not in COLUMNS_OF_VIDEOS}
    values = [f"{_feature(source)} AS {quoted(name)}" for name, source in features.items()]
    columns = [*map(column, ("video_id", *OF_VIDEOS)), f"CAST({length} AS DOUBLE) AS duration_s", *values]
    rows = table.rows.project(", ".join(columns)).filter("video_id IS NOT NULL")
    largest = ", ".join(f"max({quoted(name)}) AS {quoted(name)}" for name in (*OF_VIDEOS, *features))
    return rows.aggregate(
        f"video_id, max(duration_s) FILTER (duration_s > 0) AS duration_s, {largest}", "video_id"
    )


def _feature(source: Source) -> str:
    if source.unit == "number":
        return number(text(source))
    return vector(text(source)) if source.unit == "vector" else categories(source)


def widths_of_embeddings(videos: Relation, sources: Mapping[str, Source]) -> dict[str, int]:
    """Return how many numbers each embedding of the catalogue has: as many as most videos have.

    Raises:
        BadInput: no video has one.
    """
    widths: dict[str, int] = {}
    for name, source in sources.items():
        if source.unit == "vector":
            (width,) = first_row(videos.aggregate(f"mode(len({quoted(name)}))")) or (None,)
            if width is None:
                raise BadInput(
                    f"videos.{name}: no value of {str(source)!r} is a vector, numbers with `,`, `;`, `|` or "
                    "spaces between; give it as :number, :id or :ids, or leave it out."
                )
            widths[name] = width
    return widths


def videos_of(log: Relation) -> Relation:
    """Return the videos of a log: the largest duration of each, its newest author and tag."""
    newest = ", ".join(f"arg_max({name}, timestamp_ms) AS {name}" for name in OF_VIDEOS)
    return log.aggregate(f"video_id, max(duration_s) AS duration_s, {newest}", "video_id")


def write_videos(
    of_log: Relation, videos: Relation | None, out: Path, features: VideoFeatures = NO_VIDEO_FEATURES
) -> None:
    """Write the videos of the log and of the catalogue, by id, with their features.

    Raises:
        BadInput: the catalogue is of another log.
    """
    if videos is not None:
        ours, theirs = of_log.set_alias("seen"), videos.set_alias("known")
        if first_row(ours.join(theirs, "seen.video_id = known.video_id", how="semi")) is None:
            example = [(first_row(table.project("video_id")) or ("nothing",))[0] for table in (theirs, ours)]
            raise BadInput(
                f"the table of videos describes no video of the log: it has {example[0]!r}, the log has "
                f"{example[1]!r}. Are ids spelled differently, or is it of another log?"
            )
        columns = [f"coalesce(known.{name}, seen.{name}) AS {name}" for name in COLUMNS_OF_VIDEOS]
        own = [f"known.{quoted(name)} AS {quoted(name)}" for name in features.names]
        joined = ours.join(theirs, "seen.video_id = known.video_id", how="outer")
        of_log = joined.project(", ".join([*columns, *own]))
    of_log.order("video_id").write_parquet(str(out))


def write_users(
    connection: Connection, table: TextTable | None, sources: Mapping[str, Source], out: Path
) -> ProfileSchema:
    """Write the users and their features, by id; of one listed twice the largest of each.

    Returns:
        Which features are numbers, and which categories. A text that no id may be is unknown.
    """
    if table is None:
        rows = connection.sql("SELECT CAST(NULL AS VARCHAR) AS user_id").limit(0)
        rows.write_parquet(str(out))
        return ProfileSchema()
    features = {name: source for name, source in sources.items() if name != "user_id"}
    numbers = tuple(name for name, source in features.items() if source.unit == "number")
    values = [
        f"{number(text(source)) if name in numbers else category(text(source))} AS {quoted(name)}"
        for name, source in features.items()
    ]
    rows = table.rows.project(", ".join([f"{identifier(text(sources['user_id']))} AS user_id", *values]))
    largest = [f"max({quoted(name)}) AS {quoted(name)}" for name in features]
    rows.filter("user_id IS NOT NULL").aggregate(", ".join(["user_id", *largest]), "user_id").order(
        "user_id"
    ).write_parquet(str(out))
    return ProfileSchema(numbers=numbers, categories=tuple(name for name in features if name not in numbers))
