"""KuaiRand-1K and KuaiRand-27K: 12 and 320 million exposures, read out of core.

Source and findings: `_kuairand_pure`. These releases keep whole sequences, so there is no history without
watch times. Read are `log_standard_*`, `user_features_*` and `video_features_basic_*`, each as one file or as
`_part1`, `_part2`, .... Not read are `log_random_*` (random exposure) and `video_features_statistic_*`, whose
counts cover the test days too.

The log is never in memory as a whole. Batches of rows are checked and partitioned by day (UTC). Each day is
then cleaned as KuaiRand-Pure is as a whole, which finds all duplicates since they share their time, and the
days are concatenated.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from models.errors import BadInput
from training.data._checks import check_each_row, refuse_first
from training.data._files import find, find_one, read_batches, release_folder
from training.data._split import DAY_MS
from training.data._tables import INTERACTIONS, USERS, VIDEOS, Info, LogExtent, ProfileSchema, RowCounts
from training.data.readers._kuairand import (
    CATEGORIES,
    CITATION,
    HOME,
    LICENCE,
    LOG_KINDS,
    MAIN_TAB,
    MORE_OF_VIDEOS,
    NUMBERS,
    UTC_OFFSET_HOURS,
    VIDEO_KINDS,
    catalogue,
    check_rows,
    check_units,
    exposures,
    read_users,
)

BATCH_ROWS: Final = 1_000_000
"""Rows per batch: about 300 MB. A day of 27K has 10 million rows, about 4 GB."""


class _Release(NamedTuple):
    suffix: str
    archive: str
    logs: tuple[str, ...]
    """Every published file of exposures by the regular policy, without `.csv`."""


RELEASES: Final = {
    "kuairand-1k": _Release(
        "1k", "KuaiRand-1K", ("log_standard_4_08_to_4_21_1k", "log_standard_4_22_to_5_08_1k")
    ),
    "kuairand-27k": _Release(
        "27k",
        "KuaiRand-27K",
        tuple(
            f"log_standard_{days}_27k_part{part}"
            for days in ("4_08_to_4_21", "4_22_to_5_08")
            for part in (1, 2)
        ),
    ),
}


def write_kuairand_1k(source: Path | None, out: Path) -> Info:
    """Write the tables of KuaiRand-1K, as `write_release`."""
    return write_release("kuairand-1k", source, out)


def write_kuairand_27k(source: Path | None, out: Path) -> Info:
    """Write the tables of KuaiRand-27K, as `write_release`."""
    return write_release("kuairand-27k", source, out)


def write_release(dataset: str, source: Path | None, out: Path, batch_rows: int = BATCH_ROWS) -> Info:
    """Read a large release and write its tables into `out`.

    Args:
        dataset: a name in `RELEASES`.
        source: the unpacked archive, its `data/` folder, or a folder of the same tables as parquet.
        out: an existing folder with room for twice the log while it is written.
        batch_rows: rows per batch.

    Returns:
        The content of `dataset.json`.

    Raises:
        BadInput: as `training.data.prepare`. Rows may come in any order: the archives are sorted by user.
    """
    release = RELEASES[dataset]
    pattern = f"log_standard_*_{release.suffix}*"
    folder = release_folder(dataset, source, ("data", f"{release.archive}/data"), (pattern,), HOME)
    files = _parts(folder, f"log_standard_*_{release.suffix}")
    users = read_users(find_one(folder, f"user_features_{release.suffix}"))
    parts = out / ".parts"
    _write_videos(folder, release, out / VIDEOS, parts, batch_rows)
    users.write_parquet(out / USERS)
    read = _by_day(files, parts, batch_rows)
    dropped, cleaned = _clean_days(parts, out / VIDEOS)
    if not cleaned:
        raise BadInput(f"{folder}: no row of {files[0].name} can be used; dropped {dict(dropped)}.")
    pl.scan_parquet(cleaned).sink_parquet(out / INTERACTIONS, maintain_order=True)
    shutil.rmtree(parts)
    extent = LogExtent.from_log(pl.scan_parquet(out / INTERACTIONS), UTC_OFFSET_HOURS)
    return Info(
        dataset=dataset,
        source=f"{HOME} ({', '.join(p.name for p in files)})",
        licence=LICENCE,
        citation=CITATION,
        rows=RowCounts(read=read, kept=extent.rows, dropped=dict(dropped)),
        **extent.as_info(),
        utc_offset_hours=UTC_OFFSET_HOURS,
        main_tab=MAIN_TAB,
        profile=ProfileSchema(numbers=NUMBERS, categories=CATEGORIES),
        notes=_notes(release, files),
    )


def _parts(folder: Path, stem: str) -> list[Path]:
    """`stem.*` and `stem_part1.*`, `stem_part2.*`, …, by name and number.

    Raises:
        BadInput: there is none, a part before the last is missing, or one lies there twice.
    """
    number = re.compile(r"(.*)_part(\d+)$")
    numbered: dict[str, list[int]] = {}
    found: dict[tuple[str, int], Path] = {}
    for path in (*find(folder, stem), *find(folder, f"{stem}_part*")):
        match = number.match(path.stem)
        name, part = (match[1], int(match[2])) if match else (path.stem, 0)
        if (name, part) in found:
            raise BadInput(f"{folder} holds {path.stem} as .csv and as .parquet; remove one of them.")
        found[name, part] = path
        numbered.setdefault(name, []).append(part)
    if not found:
        raise BadInput(
            f"{folder} holds no {stem}.csv or .parquet, in one file or in parts; "
            "give the folder of the unpacked archive."
        )
    for name, have in numbered.items():
        if 0 in have and len(have) > 1:
            raise BadInput(f"{folder} holds {name} whole and in parts; remove one of them.")
        missing = sorted(set(range(1, max(have))) - set(have))
        if missing:
            raise BadInput(
                f"{folder} holds part {max(have)} of {name}, but lacks part {missing[0]}; "
                "take it from the archive."
            )
    return [found[key] for key in sorted(found)]


def _write_videos(folder: Path, release: _Release, to: Path, parts: Path, batch_rows: int) -> None:
    done = parts / "videos"
    done.mkdir(parents=True)
    for path in _parts(folder, f"video_features_basic_{release.suffix}"):
        batches = read_batches(path, VIDEO_KINDS, MORE_OF_VIDEOS, batch_rows=batch_rows, scratch=parts)
        for n, (file, batch) in enumerate(batches):
            refuse_first(
                batch, pl.col("video_id").is_null(), file, "video_id", "is empty; is the file cut off?"
            )
            catalogue(batch).write_parquet(done / f"{path.stem}-{n:06}.parquet")
    written = sorted(done.iterdir())
    if not written:
        raise BadInput(f"{folder}: video_features_basic_{release.suffix} has no rows; is it cut off?")
    scan = pl.scan_parquet(written)
    twice = scan.group_by("video_id").len().filter(pl.col("len") > 1).head(1).collect(engine="streaming")
    if len(twice):
        raise BadInput(
            f"video_features_basic_{release.suffix}: `video_id` {twice['video_id'][0]} is listed twice; "
            "keep one row for each."
        )
    scan.sink_parquet(to, maintain_order=True)
    shutil.rmtree(done)


def _by_day(files: list[Path], parts: Path, batch_rows: int) -> int:
    """Partition the checked rows of all logs by day (UTC); return how many there are."""
    read = 0
    for path in files:
        rows = 0
        batches = read_batches(path, LOG_KINDS, batch_rows=batch_rows, scratch=parts)
        for n, (file, batch) in enumerate(batches):
            check_rows(batch, file)
            if n == 0:  # a file has one unit, and its last batch may be too small for a median
                check_units(batch, file)
            days = batch.with_columns(day=pl.col("time_ms") // DAY_MS).partition_by(
                "day", as_dict=True, include_key=False
            )
            for (day,), rows_of_day in days.items():
                folder = parts / "days" / f"{day:08}"
                folder.mkdir(parents=True, exist_ok=True)
                rows_of_day.write_parquet(folder / f"{path.stem}-{n:06}.parquet", compression="lz4")
            rows += len(batch)
        if not rows:
            raise BadInput(f"{path.name} has no rows; nothing can be learned from it.")
        read += rows
    return read


def _clean_days(parts: Path, videos: Path) -> tuple[Counter[str], list[Path]]:
    """Turn the rows of each day into interactions; return the dropped rows by reason, and the day files."""
    dropped: Counter[str] = Counter()
    cleaned: list[Path] = []
    known = pl.scan_parquet(videos).select("video_id", "author_id", "tag", "duration_s")
    for folder in sorted((parts / "days").iterdir()):
        raw = pl.read_parquet(sorted(folder.iterdir()))
        ids = raw.select(pl.col("video_id").unique()).lazy()
        log, counts = exposures(raw, known.join(ids, on="video_id", how="semi").collect(engine="streaming"))
        check_each_row(log, folder.name)
        dropped.update(counts)
        if len(log):
            cleaned.append(parts / f"{folder.name}.parquet")
            log.write_parquet(cleaned[-1])
        shutil.rmtree(folder)
    return dropped, cleaned


def _notes(release: _Release, files: list[Path]) -> tuple[str, ...]:
    missing = [name for name in release.logs if name not in {path.stem for path in files}]
    return (f"Published logs that were not there: {', '.join(missing)}.",) if missing else ()
