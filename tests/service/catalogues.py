"""Catalogue files for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from models.schema import Video
from service.catalogue.file import CatalogueWriter, Header


def numbered(count: int) -> list[Video]:
    """Videos `v0`, `v1`, ... of 1, 2, ... seconds."""
    return [Video(video_id=f"v{i}", duration_s=i + 1.0, author_id=f"a{i % 7}") for i in range(count)]


def write(path: Path, videos: Iterable[Video], cursor: str = "") -> Header:
    """Write a file; it replaces the one that is there."""
    with CatalogueWriter(path) as writer:
        writer.add(videos)
        return writer.finish(cursor=cursor)
