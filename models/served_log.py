"""The served log: what the service ranked and what it accepted as feedback. Training reads it.

A folder of NDJSON files, `events-….ndjson` and `slates-….ndjson`, each written by one process. If that is
killed, only the last line of its file may be unfinished: no request was answered on the strength of it, and
it is left out. Files that have ended are compressed to `….ndjson.gz`. Members may be added to lines.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal, TypeVar

import msgspec

from models.errors import BadInput
from models.schema import FeedbackEvent

Kind = Literal["events", "slates"]

SUFFIX: Final = ".ndjson"
COMPRESSED: Final = ".ndjson.gz"

Line = TypeVar("Line", bound=msgspec.Struct)


class LoggedEvent(FeedbackEvent, frozen=True, kw_only=True, forbid_unknown_fields=False, omit_defaults=True):
    """An event that was accepted, as it was sent; members that the catalogue knew are filled in.

    One exposure has a line for each version and repetition of its event. A repetition may be all there is of
    it: a retry, after the process that stored the event was killed before it wrote the line.
    """

    outcome: Literal["accepted", "merged", "duplicate"]
    logged_at_ms: int
    """The service's clock, Unix milliseconds."""


class LoggedSlate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A slate that was answered, with all candidates."""

    request_id: str
    user_id: str
    timestamp_ms: int
    """The moment it was ranked for, Unix milliseconds."""
    model_version: str
    weights: dict[str, float]
    """Of the score: the request's, or the bundle's."""
    returned: Annotated[int, msgspec.Meta(ge=0)]
    """How many of the candidates were in the reply: the first ones."""
    history_length: int
    """Exposures that the ranker has read."""
    video_id: list[str]
    """All candidates, best first."""
    score: list[float]
    """Their scores, to the millionth."""
    tab: str | None = None
    degraded: list[str] = []
    """What the ranking had to do without."""
    experiment: str | None = None
    """The experiment that the user is in, and there the arm that answered."""
    arm: str | None = None
    rules: dict[str, Any] = {}
    """Of the request. They decide which candidates were in the reply and in what order: these are first, the
    others follow in the order of their scores."""
    explore: dict[str, float] = {}
    """`temperature` and `epsilon`, if the slate was drawn."""
    propensity: list[float] = []
    """And then of each video that was returned: its probability at its position, given those above."""


def log_files(folder: Path, kind: Kind) -> list[Path]:
    """Return the files of a kind, oldest first; of one that has just been compressed only the compressed one.

    Raises:
        BadInput: there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; give the one that the service writes as REELRANK_LOG_DIR.")
    compressed = sorted(folder.glob(f"{kind}-*{COMPRESSED}"))
    ended = {path.name.removesuffix(".gz") for path in compressed}
    others = [path for path in folder.glob(f"{kind}-*{SUFFIX}") if path.name not in ended]
    return sorted([*compressed, *others])


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, with their ends, but an unfinished last one.

    Args:
        path: compressed or not; one that is compressed meanwhile is found under its new name.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with _opened(path) as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except (OSError, EOFError) as e:
        raise BadInput(f"{path} cannot be read: {e}.") from None


def decoded_lines(path: Path, kind: type[Line]) -> Iterator[Line]:
    """Yield the lines of a file as `LoggedEvent` or `LoggedSlate`.

    Raises:
        BadInput: it cannot be read, or a line of it is none.
    """
    decode = msgspec.json.Decoder(kind).decode
    for number, line in enumerate(whole_lines(path), 1):
        try:
            yield decode(line)
        except (ValueError, RecursionError) as e:
            raise BadInput(f"{path}, line {number} is no line of a served log ({e}). Remove it.") from None


def _opened(path: Path) -> IO[bytes]:
    if path.name.endswith(SUFFIX):
        try:
            return path.open("rb")
        except FileNotFoundError:
            path = path.with_name(path.name + ".gz")
    return gzip.open(path)  # type: ignore[return-value]  # a file of bytes
