"""Download a file over HTTP, resumed after an interruption, never mixing two versions of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models.errors import BadInput

ATTEMPTS: Final = 5
"""Consecutive failures without a new byte before giving up."""
_TIMEOUT: Final = httpx2.Timeout(30.0, connect=10.0)


class _Version(BaseModel):
    """Version of the file that a part belongs to, kept beside the part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None
    """Bytes of the whole file, if the server sends them."""

    @property
    def validator(self) -> str | None:
        """Value of `If-Range`: a strong ETag, or the date. A weak ETag does not promise equal bytes."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class _Interrupted(Exception):
    """A failure that a further attempt may overcome."""


def download(url: str, path: Path, *, progress: bool = True, retry_wait_s: float = 1.0) -> None:
    """Download a file.

    Bytes go to `<path>.part`, and the file's ETag, date and size to `<path>.part.json`. A later call resumes
    by an HTTP range if the server still has the same version, and starts over otherwise. `path` appears
    when the file is complete. A broken connection is retried up to `ATTEMPTS` times without progress.

    Raises:
        BadInput: the server answers with an error, cannot be reached, or keeps closing the connection.
    """
    part, note = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.json")
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    bar = Progress(TextColumn(path.name), *columns, console=console, disable=not progress)
    failures = 0
    with httpx2.Client(follow_redirects=True, timeout=_TIMEOUT) as client, bar:
        task = bar.add_task(path.name, total=None)
        while True:
            before = _size(part)
            try:
                _attempt(client, url, part, note, bar, task)
                break
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as e:
                raise BadInput(f"{url!r} leads nowhere: {e}; give another address.") from e
            except (httpx2.TransportError, _Interrupted) as e:
                failures = failures + 1 if _size(part) <= before else 1
                if failures >= ATTEMPTS:
                    raise BadInput(
                        f"{url}: {e or type(e).__name__}; {_size(part):,} bytes are kept, run the same "
                        "command again to resume."
                    ) from e
            time.sleep(retry_wait_s * failures)
    part.replace(path)
    note.unlink(missing_ok=True)


def _attempt(client: httpx2.Client, url: str, part: Path, note: Path, bar: Progress, task: TaskID) -> None:
    """Send one request; return when the part is complete."""
    have = _read_note(note, url)
    start = _size(part) if have is not None and have.validator is not None else 0
    if have is not None and start and start == have.size:
        return
    headers = {"Accept-Encoding": "identity"}  # the archive's own bytes: sizes and checksum are of these
    if have is not None and have.validator is not None and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": have.validator}
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Interrupted("the server has fewer bytes than were fetched; starting again")
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise _Interrupted(f"the server answered {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise BadInput(f"{url}: the server answered {answer.status_code}; is the address right?")
        now = _version(answer, url)
        if answer.status_code == 206 and (now != have or not _continues(answer, start)):
            part.unlink(missing_ok=True)
            raise _Interrupted("the file changed on the server; starting again")
        if answer.status_code == 200:
            start = 0
            part.unlink(missing_ok=True)
            note.write_text(now.model_dump_json())
        bar.update(task, total=now.size, completed=start)
        with part.open("ab") as file:
            for chunk in answer.iter_raw():  # as they come: a chunk size would hold bytes back
                file.write(chunk)
                bar.advance(task, len(chunk))
        if now.size is not None and _size(part) != now.size:
            raise _Interrupted(f"got {_size(part):,} of {now.size:,} bytes")


def _version(answer: httpx2.Response, url: str) -> _Version:
    length = answer.headers.get("content-length")
    if answer.status_code == 206:
        length = answer.headers.get("content-range", "").rpartition("/")[2]
    return _Version(
        url=url,
        etag=answer.headers.get("etag"),
        last_modified=answer.headers.get("last-modified"),
        size=int(length) if length is not None and length.isdigit() else None,
    )


def _continues(answer: httpx2.Response, start: int) -> bool:
    found: str = answer.headers.get("content-range", "")
    return found.startswith(f"bytes {start}-")


def _read_note(note: Path, url: str) -> _Version | None:
    try:
        found = _Version.model_validate_json(note.read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.url == url else None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
