"""KuaiRand-1K and KuaiRand-27K: as Pure, of 12 and of 320 million exposures, so out of core.

Source and findings: see `training.data._kuairand`. These releases keep whole sequences, so there is no
history without watch times. What is read: `log_standard_*`, `user_features_*` and `video_features_basic_*`,
in one file each or in `_part1`, `_part2`, …. What is not: `log_random_*`, another policy's, and
`video_features_statistic_*`, which counts over the whole period and so knows the days a model is judged on.

The log is never in memory as a whole. Files are read some rows at a time, checked, and laid into one folder
for each day; then each day is turned over as Pure is as a whole, since copies of an exposure share its time,
and the days are written one after the other.
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
from training.data._kuairand_rows import (
    CATEGORIES,
    CITATION,
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
from training.data._source import find, find_one, read_batches
from training.data._split import DAY_MS
from training.data._tables import INTERACTIONS, USERS, VIDEOS, Info, ProfileSchema, RowCounts, local_days

BATCH_ROWS: Final = 1_000_000
"""Rows in memory at once while files are read: some 300 MB. A day of 27K is 10 million rows, some 4 GB."""


class _Release(NamedTuple):
    suffix: str
    archive: str
    logs: tuple[str, ...]
    """Every published file of exposures by the feed's own policy, without `.csv`."""


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
    """KuaiRand-1K, see `write_release`."""
    return write_release("kuairand-1k", source, out)


def write_kuairand_27k(source: Path | None, out: Path) -> Info:
    """KuaiRand-27K, see `write_release`."""
    return write_release("kuairand-27k", source, out)


def write_release(dataset: str, source: Path | None, out: Path, batch_rows: int = BATCH_ROWS) -> Info:
    """Read a large release and write its tables into `out`.

    Args:
        dataset: a name in `RELEASES`.
        source: the unpacked archive, its `data/` folder, or a folder of the same tables as parquet.
        out: an existing folder; holds the parts while they are made, at most about twice the log.
        batch_rows: rows in memory at once while files are read.

    Returns:
        What `dataset.json` is to say.

    Raises:
        BadInput: see `training.data.prepare`. Rows may come in any order: the archives are arranged by user.
    """
    release = RELEASES[dataset]
    folder = _folder(dataset, release, source)
    files = _parts(folder, f"log_standard_*_{release.suffix}")
    users = read_users(find_one(folder, f"user_features_{release.suffix}"))
    parts = out / ".parts"
    _write_videos(folder, release, out / VIDEOS, parts, batch_rows)
    users.write_parquet(out / USERS)
    read = _by_day(files, parts, batch_rows)
    dropped, days = _turn_over(parts, out / VIDEOS)
    if not days:
        raise BadInput(f"{folder}: no row of {files[0].name} can be used; dropped {dict(dropped)}.")
    pl.scan_parquet(sorted((parts / "done").iterdir())).sink_parquet(out / INTERACTIONS, maintain_order=True)
    shutil.rmtree(parts)
    found = (
        pl.scan_parquet(out / INTERACTIONS)
        .select(
            rows=pl.len(),
            users=pl.col("user_id").n_unique(),
            videos=pl.col("video_id").n_unique(),
            first=pl.col("timestamp_ms").min(),
            last=pl.col("timestamp_ms").max(),
        )
        .collect(engine="streaming")
        .row(0, named=True)
    )
    return Info(
        dataset=dataset,
        source=f"https://kuairand.com ({', '.join(p.name for p in files)})",
        licence=LICENCE,
        citation=CITATION,
        rows=RowCounts(read=read, kept=found["rows"], dropped=dict(dropped)),
        users=found["users"],
        videos=found["videos"],
        first_timestamp_ms=found["first"],
        last_timestamp_ms=found["last"],
        utc_offset_hours=UTC_OFFSET_HOURS,
        days=tuple(sorted(days)),
        main_tab=MAIN_TAB,
        profile=ProfileSchema(numbers=NUMBERS, categories=CATEGORIES),
        notes=_notes(release, files),
    )


def _folder(dataset: str, release: _Release, source: Path | None) -> Path:
    if source is None:
        raise BadInput(f"{dataset} is read from a folder; give it with --source DIR.")
    for folder in (source, source / "data", source / release.archive / "data"):
        if find(folder, f"log_standard_*_{release.suffix}*"):
            return folder
    what = "holds no" if source.is_dir() else "is not a folder with"
    raise BadInput(
        f"{source} {what} log_standard_*_{release.suffix}*.csv or .parquet, nor does its data/; get "
        f"{release.archive} from https://kuairand.com and give the folder it unpacks to."
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
        for n, (where, batch) in enumerate(batches):
            refuse_first(
                batch, pl.col("video_id").is_null(), where, "video_id", "is empty; is the file cut off?"
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
    """Lay the checked rows of all logs into a folder for each day (UTC); returns how many there are."""
    read = 0
    for path in files:
        rows = 0
        batches = read_batches(path, LOG_KINDS, batch_rows=batch_rows, scratch=parts)
        for n, (where, batch) in enumerate(batches):
            check_rows(batch, where)
            if n == 0:  # a file has one unit; the rows left over at its end would be too few to tell it
                check_units(batch, where)
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


def _turn_over(parts: Path, videos: Path) -> tuple[Counter[str], set[str]]:
    """Each day's rows -> a file of interactions; what was dropped, and the local dates with rows."""
    dropped: Counter[str] = Counter()
    dates: set[str] = set()
    done = parts / "done"
    done.mkdir()
    known = pl.scan_parquet(videos).select("video_id", "author_id", "tag", "duration_s")
    for folder in sorted((parts / "days").iterdir()):
        raw = pl.read_parquet(sorted(folder.iterdir()))
        here = raw.select(pl.col("video_id").unique()).lazy()
        log, counts = exposures(raw, known.join(here, on="video_id", how="semi").collect(engine="streaming"))
        check_each_row(log, folder.name)
        dropped.update(counts)
        if len(log):
            dates |= set(local_days(log["timestamp_ms"], UTC_OFFSET_HOURS))
            log.write_parquet(done / f"{folder.name}.parquet")
        shutil.rmtree(folder)
    return dropped, dates


def _notes(release: _Release, files: list[Path]) -> tuple[str, ...]:
    missing = [name for name in release.logs if name not in {path.stem for path in files}]
    return (f"Published logs that were not there: {', '.join(missing)}.",) if missing else ()
