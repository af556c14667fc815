"""Which column of a log of one's own is which: what was given, what is guessed, and what is still missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import BadInput
from training.data.own_log._files import Relation, TextTable, first_row
from training.data.own_log._guess import (
    NAMES_OF_SIGNALS,
    guess_clock,
    guess_columns,
    guess_features,
    guess_features_of_videos,
    guess_unit,
    holds_several,
    name_of_feature,
)
from training.data.own_log._mapping import (
    COLUMNS_OF_VIDEOS,
    MAPPING,
    MEANINGS,
    REQUIRED,
    SIGNALS,
    TARGETS,
    USERS,
    VIDEOS,
    ColumnMapping,
    Source,
    left_out,
)
from training.data.own_log._values import seconds, text

_SOUGHT: Final = {
    "interactions": TARGETS,
    "videos": COLUMNS_OF_VIDEOS,
    "users": ("user_id",),
}
"""Our columns by table, in the order in which they are guessed and shown."""
SAMPLE_ROWS: Final = 100_000
"""From the beginning of a table; units are guessed from their values."""


@dataclass(frozen=True)
class OwnLog:
    """What `prepare --dataset own` takes beside the log itself."""

    videos: Path | None = None
    """A table of videos: durations, authors and tags that rows of the log lack, and features."""
    users: Path | None = None
    mapping: Path | None = None
    """A `mapping.json`; without it the one beside the log, if there is one."""
    changes: Sequence[str] = ()
    """Of `--map`, see `ColumnMapping.with_changes`."""
    utc_offset_hours: float | None = None
    """Of the log's days; `None`: as the mapping says."""
    main_tab: str | None = None


@dataclass(frozen=True)
class Opened:
    """The files of a log."""

    log: TextTable
    videos: TextTable | None
    users: TextTable | None

    def tables(self) -> dict[str, TextTable]:
        """By the name of the table that they become."""
        tables = {"interactions": self.log, "videos": self.videos, "users": self.users}
        return {name: table for name, table in tables.items() if table is not None}


def known_mapping(source: Path, own: OwnLog) -> tuple[ColumnMapping, Path | None]:
    """Return the mapping before anything is guessed, and the file it is from.

    A file is complete: with it only units are guessed.
    """
    beside = (source if source.is_dir() else source.parent) / MAPPING
    path = own.mapping or (beside if beside.is_file() else None)
    mapping = (ColumnMapping.read(path) if path else ColumnMapping()).with_changes(own.changes)
    given = {"utc_offset_hours": own.utc_offset_hours, "main_tab": own.main_tab}
    return mapping.model_copy(update={k: v for k, v in given.items() if v is not None}), path


def complete(
    mapping: ColumnMapping, opened: Opened, samples: Mapping[str, Relation], own: OwnLog, *, guess: bool
) -> ColumnMapping:
    """Return the mapping with every column and unit.

    Args:
        mapping: what is known.
        opened: the files.
        samples: rows of each table.
        own: the options.
        guess: which column is which; units are guessed in any case.

    Raises:
        BadInput: a column is not there, or cannot be guessed, or its unit cannot be.
    """
    tables = opened.tables()
    found = {name: dict(getattr(mapping, name)) if name in tables else {} for name in _SOUGHT}
    found["interactions"] |= mapping.signal_sources()
    if guess:
        for name, table in tables.items():
            _add_guesses(found[name], table, name, own)
        _add_clocks(found, opened.log, samples["interactions"], own)
        for name in (VIDEOS, USERS):
            if name in tables:
                _add_features(found[name], tables[name], samples[name], name, own)
    problems = [
        *_wrong_columns(found, tables),
        *_other_tables(found["interactions"], opened.log),
        *_missing_columns(found, tables),
    ]
    if problems:
        raise BadInput(" Also: ".join(problems))
    with_units: dict[str, dict[str, Source]] = {}
    duration_s = None
    for name in ("videos", "users", "interactions"):
        with_units[name] = {}
        # The duration first: the unit of watch times is guessed from it.
        for target in sorted(found[name], key=lambda target: target != "duration_s"):
            source = found[name][target]
            known_s = duration_s if target == "watch_time_s" else None
            try:
                is_feature = name in (VIDEOS, USERS) and target not in _SOUGHT[name]
                known_as = f"{name}.{target}" if is_feature else target
                unit = source.unit or guess_unit(known_as, source, samples[name], known_s)
            except BadInput as e:
                problems.append(str(e))
                continue
            with_units[name][target] = source = source.model_copy(update={"unit": unit})
            if target == "duration_s":
                duration_s = _median_s(source, samples[name]) or duration_s
    if problems:
        raise BadInput(" Also: ".join(problems))
    ordered = {
        name: {target: with_units[name][target] for target in sought if target in with_units[name]}
        for name, sought in _SOUGHT.items()
    }
    for name in (VIDEOS, USERS):
        ordered[name] |= with_units[name]
    signals: dict[str, dict[str, Source]] = {kind: {} for kind in SIGNALS}
    for target, source in with_units["interactions"].items():
        kind, dot, name = target.partition(".")
        if dot:
            signals[kind][name] = source
    return mapping.model_copy(update=ordered | signals)


def _add_guesses(found: dict[str, Source], table: TextTable, name: str, own: OwnLog) -> None:
    taken = [column for source in found.values() for column in source.columns]
    prefix = "" if name == "interactions" else f"{name}."
    without = {target.removeprefix(prefix) for target in left_out(own.changes) if target.startswith(prefix)}
    declared = {target.rpartition(".")[2] for target in found}
    sought = (*_SOUGHT[name], *(NAMES_OF_SIGNALS if name == "interactions" else ()))
    targets = [t for t in sought if t.rpartition(".")[2] not in declared and t not in without]
    found.update(guess_columns(table.columns, targets, taken))


def _add_features(
    found: dict[str, Source], table: TextTable, sample: Relation, name: str, own: OwnLog
) -> None:
    taken = {column for source in found.values() for column in source.columns}
    free = [column for column in table.columns if column not in taken]
    features = guess_features(free, sample) if name == USERS else guess_features_of_videos(free, sample)
    tag = found.get("tag")
    if name == VIDEOS and tag is not None and tag.unit is None and holds_several(tag, sample):
        several = name_of_feature(tag.columns[0])  # the first of them is the tag
        features["tags" if several == "tag" else several] = tag.model_copy(update={"unit": "ids"})
    without = left_out(own.changes)
    found.update({n: s for n, s in features.items() if n not in found and f"{name}.{n}" not in without})


def _add_clocks(found: dict[str, dict[str, Source]], log: TextTable, sample: Relation, own: OwnLog) -> None:
    """`00:04/02:01` holds the watch time and the duration."""
    ours = found["interactions"]
    without = left_out(own.changes)
    if "watch_time_s" not in ours and "watch_time_s" not in without:
        taken = {column for source in ours.values() for column in source.columns}
        clock = guess_clock([column for column in log.columns if column not in taken], sample)
        if clock is not None:
            ours["watch_time_s"] = clock
    if "duration_s" not in ours and "duration_s" not in found["videos"] and "watch_time_s" in ours:
        columns = [column for column in ours["watch_time_s"].columns if column in log.columns]
        clock = guess_clock(columns, sample)
        if clock is not None:
            ours["duration_s"] = clock


def check_columns(found: Mapping[str, Mapping[str, Source]], tables: Mapping[str, TextTable]) -> None:
    """Check a mapping of tables of videos and users.

    Raises:
        BadInput: a column is not there, or none is the id.
    """
    ids = {"videos": "video_id", "users": "user_id"}
    missing = [
        f"the mapping does not say which column of {tables[name].files[0].name} is {ids[name]}."
        for name, sources in found.items()
        if ids[name] not in sources
    ]
    if problems := [*_wrong_columns(found, tables), *missing]:
        raise BadInput(" Also: ".join(problems))


def _wrong_columns(
    found: Mapping[str, Mapping[str, Source]], tables: Mapping[str, TextTable]
) -> Iterator[str]:
    for name, sources in found.items():
        for target, source in sources.items():
            for column in source.columns:
                if column not in tables[name].columns:
                    yield (
                        f"{tables[name].files[0].name} has no column {column!r}, which {target} is to be "
                        f"read from; it has {', '.join(tables[name].columns)}."
                    )


def _other_tables(sources: Mapping[str, Source], log: TextTable) -> Iterator[str]:
    """A file beside the log that lacks what every row needs is a table of videos or users."""
    for target in ("user_id", "video_id", "timestamp_ms", "watch_time_s"):
        columns = set(sources[target].columns if target in sources else ()) & set(log.columns)
        for path, names in log.columns_of.items():
            if columns and not columns & set(names):
                yield (
                    f"{path.name} has no column {str(sources[target])!r}, which {target} is to be read from: "
                    "is it another table, to be given with --videos or --users?"
                )
                return


def _missing_columns(
    found: Mapping[str, Mapping[str, Source]], tables: Mapping[str, TextTable]
) -> Iterator[str]:
    missing = [
        target
        for target in REQUIRED
        if target not in found["interactions"]
        and not (target == "duration_s" and "duration_s" in found["videos"])
    ]
    if missing:
        hint = "; durations may be in a table of --videos" if "duration_s" in missing else ""
        yield (
            f"it is unclear which column is {' and which is '.join(missing)}: the log has "
            f"{', '.join(tables['interactions'].columns)}; give --map {missing[0]}=COLUMN{hint}."
        )
    for name, key in (("videos", "video_id"), ("users", "user_id")):
        if name in tables and key not in found[name]:
            yield (
                f"{tables[name].files[0].name} has no column that looks like {key}: it has "
                f"{', '.join(tables[name].columns)}; rename one, or give it in a {MAPPING}."
            )


def _median_s(source: Source, sample: Relation) -> float | None:
    assert source.unit is not None
    length = seconds(text(source), source.unit, "duration_s")
    known = sample.project(f"{length} AS length").filter("length > 0")
    row = first_row(known.aggregate("median(length)"))
    return None if row is None else row[0]


def described(mapping: ColumnMapping) -> str:
    """Return the mapping as lines for people: ours, what it is read from, and how."""
    lines = []
    for table in ("interactions", *SIGNALS, "videos", "users"):
        for target, source in getattr(mapping, table).items():
            name = target if table == "interactions" else f"{table}.{target}"
            meaning = MEANINGS[source.unit] if source.unit else ""
            lines.append(f"  {name:18} {source!s:24} {meaning}")
    return "\n".join(lines)
