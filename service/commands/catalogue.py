"""`python -m service catalogue`: builds the file that all workers map, and checks one."""

from __future__ import annotations

import asyncio
import codecs
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from models.errors import BadInput, Invalid, NotJson
from models.schema import Video
from service.catalogue.file import CatalogueFile, CatalogueWriter, Header
from service.pipeline.decoding import decode
from service.settings import Settings
from service.state import open_store

STEP: Final = 10_000
"""Lines between two steps of the progress bar."""

_decoder: Final = msgspec.json.Decoder(Video)


def build(out: Path, *, source: str | None, store: str | None) -> None:
    """Write the file and print what is in it.

    Args:
        out: the file; its folder exists.
        source: NDJSON of videos, `-` for standard input; of two lines with one id the later one counts.
        store: URL of the store whose catalogue is read if there is no `source`; `None` is the setting.

    Raises:
        BadInput: no source is given, a line is no video, or the file cannot be written.
        StoreUnavailable: the store cannot be reached.
    """
    if source is not None and store is not None:
        raise BadInput("Give --source or --store, not both.")
    settings = Settings.read(store=store)
    if source is None and settings.store is None:
        raise BadInput("No source of videos: give --source FILE or --store URL, or set REELRANK_STORE.")
    text = TextColumn("{task.completed:,.0f} videos")
    with (
        CatalogueWriter(out) as writer,
        Progress(text, TimeElapsedColumn(), console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("")
        if source is None:
            header = asyncio.run(_from_store(writer, settings, lambda n: bar.advance(task, n)))
        else:
            for videos in _batches(source):
                writer.add(videos)
                bar.advance(task, len(videos))
            header = writer.finish()
    print(_summary(out, header))


def check(file: Path) -> None:
    """Verify a file's checksum and print what is in it.

    Raises:
        BadInput: it cannot be read, is no catalogue file, or is damaged.
    """
    print(_summary(file, CatalogueFile.open(file).header))


def _summary(file: Path, header: Header) -> str:
    since = f"; later changes are read from the store ({header.cursor})" if header.cursor else ""
    return f"{file}: {header.videos:,} videos, {file.stat().st_size / 2**20:,.1f} MiB{since}"


async def _from_store(writer: CatalogueWriter, settings: Settings, advance: Callable[[int], None]) -> Header:
    store = open_store(settings)
    cursor = ""
    try:
        async for page_cursor, videos in store.video_pages():
            cursor = page_cursor
            writer.add(videos)
            advance(len(videos))
    finally:
        await store.close()
    return writer.finish(cursor=cursor)


def _batches(source: str) -> Iterator[list[Video]]:
    if source == "-":
        yield from _read(sys.stdin.buffer, "standard input")
        return
    try:
        with Path(source).open("rb") as file:
            yield from _read(file, source)
    except OSError as e:
        raise BadInput(f"{source} cannot be read: {e.strerror}.") from None


def _read(file: BinaryIO, name: str) -> Iterator[list[Video]]:
    lines = enumerate(file, 1)
    while batch := list(islice(lines, STEP)):
        yield [_video(line, number, name) for number, line in batch if line.strip()]


def _video(line: bytes, number: int, name: str) -> Video:
    try:
        return decode(_decoder, line.removeprefix(codecs.BOM_UTF8))
    except (NotJson, Invalid) as e:
        raise BadInput(
            f"Line {number} of {name} is no video: {e} Each line is an object with `video_id` and, as far "
            "as known, `duration_s`, `author_id` and `tag`, as in PUT /videos."
        ) from None
