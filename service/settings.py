"""`REELRANK_*`: every setting of the service, its default and its meaning."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

import models
from models.errors import BadInput
from models.schema import MAX_TIMESTAMP_MS

# The bounds are far beyond any use, and within what timers and the store's expiry take.
Count = Annotated[int, Field(gt=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Duration = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]

SMALLEST_MS: Final = 10**11
"""Unix milliseconds of 1973, and seconds of the year 5138."""
PREFIX: Final = "REELRANK_"
OF_CLIENTS: Final = {"REELRANK_API_KEY"}
"""Variables that begin so and are no setting of the service."""
SERVICE_LINK: Final = re.compile(r"REELRANK_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")
"""Variables that Kubernetes gives its containers for a Service whose name begins with `reelrank`."""


class Settings(BaseSettings):
    """Read from the environment; `serve`'s options override. Immutable, so every worker sees the same."""

    # Compose writes a variable that is not set as an empty one.
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    store: str | None = None
    """`redis://…`, `rediss://…`, `unix://…`, `redis+cluster://…` or `redis+sentinel://…`. Without it the
    program starts a Valkey server of its own."""
    store_file: Path | None = None
    """The same, from a file: what else runs here can read the environment. Read once, at the start."""
    data_dir: Path = Path("~/.local/share/reelrank")
    """Everything that must survive a restart: the embedded store and the unlearning ledger; and requests
    without ids, for the next warm-up."""
    bundle: Path = Path(next(iter(models.__path__))) / "bundles"
    """A folder of versions with a `CURRENT`, which is followed, or one version's folder, which is not."""
    catalogue: Path | None = None
    """A file of `python -m service catalogue build`, which all workers share. What the store says of a video
    wins. Another file that is put in its place is taken over."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where the graphs run. `cuda` fails at start if they would not really run there."""
    gpu_memory_mib: Count = 2048
    """On a GPU: the most that each graph of one worker may take of its memory."""
    console: bool = True
    """Whether to serve the page /console."""
    split: str | None = None
    """`VERSION=SHARE`: this share of the users, 0 to 1, is answered by that version, until a call or the file
    `SPLIT` beside `CURRENT` says otherwise."""
    shadow: str | None = None
    """The same of a version that scores a share of the requests unseen; the file is `SHADOW`."""

    explore: str | None = None
    """`temperature=0.05,epsilon=0.02`: slates are drawn by score, unless their request says otherwise. By
    default they are sorted by it."""
    sequence_length: Count = 100
    """Exposures kept a user, the newest."""
    idempotency_window_s: Count = 86_400
    """For how long a repeated `event_id` is known to be one."""
    retention_s: Count = 90 * 86_400
    """For how long sequences, profiles and the catalogue are kept after the last write."""
    late_s: Seconds = 0.0
    """Events older than this are labelled and not stored. 0: no limit, history is welcome."""
    earliest_ms: Annotated[int, Field(ge=0, le=MAX_TIMESTAMP_MS)] = 1_104_537_600_000
    """Times before this one, Unix milliseconds, are refused (`clock_skew`): they are likely to be seconds.
    The default is the year 2005."""

    max_body_bytes: Count = 2 * 1024 * 1024
    """Of a JSON body; an NDJSON body has no limit, each of its lines has."""
    max_events: Count = 10_000
    """Of one JSON body, and entries of one PUT."""
    max_candidates: Count = 2_000
    """Of one slate."""
    deadline_ms: Duration = 200.0
    """Time POST /rerank may take when the request has no `X-Deadline-Ms`."""

    label_deadline_ms: Duration = 10_000.0
    """The same for POST /label with a JSON body, and for the other paths that use the store."""
    max_inflight_candidates: Count = 60_000
    """Most candidates of slates that one worker works on at a time, however long their deadline; a slate
    counts 100 more than it has. What is over it is refused with 429."""
    max_inflight_events: Count = 20_000
    """The same for events of POST /label, half of it for JSON bodies (which are refused) and half for NDJSON
    streams (which wait)."""
    max_streams: Count = 64
    """NDJSON streams open at a time in one worker."""
    max_inflight_body_bytes: Count = 256 * 1024 * 1024
    """Of bodies that one worker holds while the rest of them is still to come."""
    body_timeout_s: Duration = 30.0
    """A request's head, and then its body, must have arrived within this; of a stream, something must."""

    api_keys: SecretStr = SecretStr("")
    """`KEY:right+right[@RATE], …` with rights out of label, rerank, read, admin."""
    api_keys_file: Path | None = None
    """The same, one a line; `#` starts a comment."""
    key_rate: Rate = 0.0
    """Requests a second that a key may make of one worker, unless its entry says another (`@RATE`). 0: no
    limit."""

    inline_candidates: Count = 500
    """Slates up to this size are computed on the event loop; larger ones in a thread."""
    inline_events: Count = 2_000
    """The same for labels."""
    poll_s: Duration = 0.5
    """How often `CURRENT`, `SPLIT`, `SHADOW` and the catalogue are looked at."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written to standard error."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto` is text on a terminal and JSON lines elsewhere."""
    access_log: Literal["off", "errors", "all"] = "errors"
    """Which requests have a line, besides those that failed or were slow."""
    slow_ms: Duration = 100.0
    """A request that takes longer has a line in the log."""
    tracing: Literal["off", "otlp"] = "off"
    """`otlp` sends spans; the extra `tracing` must be installed."""
    trace_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of the requests whose caller has not decided (`traceparent`), how many have spans."""
    log_dir: Path | None = None
    """The served log: what was ranked and what was accepted as feedback, for the next training. By default
    there is none."""
    log_max_bytes: Annotated[int, Field(ge=2**20, le=10**15)] = 10 * 1024**3
    """Of the served log, of all workers. Beyond it the oldest slates are removed, then the oldest events."""
    drain_s: Seconds = 0.0
    """After SIGTERM: how long to go on serving, not ready, until the balancer has looked away."""
    grace_s: Duration = 10.0
    """After that: how long requests in flight may take to finish."""

    _embedded_store: bool = PrivateAttr(False)

    @property
    def embedded_store(self) -> bool:
        """Whether the store is the server that this program has started under `data_dir`."""
        return self._embedded_store

    def with_embedded_store(self, url: str) -> Settings:
        """Return these settings with the URL of the server that this program has started."""
        settings = self.model_copy(update={"store": url})
        settings._embedded_store = True
        return settings

    @classmethod
    def read(cls, **options: Any) -> Settings:
        """The environment, overridden by the options that are not `None`.

        Raises:
            BadInput: a variable is no setting or has a value its setting cannot take, a file that it names
                cannot be read, or the store's URL is ambiguous.
        """
        _check_names(os.environ.keys(), {PREFIX + name.upper() for name in cls.model_fields} | OF_CLIENTS)
        try:
            settings = cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as e:
            first = e.errors(include_input=False)[0]
            name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
            raise BadInput(f"{name}: {first['msg']}.") from None
        resolved: dict[str, object] = {}
        for name, folder in (("data_dir", settings.data_dir), ("log_dir", settings.log_dir)):
            try:
                resolved[name] = folder and folder.expanduser()
            except RuntimeError:
                raise BadInput(f"{PREFIX}{name.upper()}: there is no such user as in {folder}.") from None
        if 0 < settings.earliest_ms < SMALLEST_MS:
            raise BadInput(
                f"REELRANK_EARLIEST_MS: {settings.earliest_ms} is in seconds; write it in milliseconds, or 0 "
                "to take any time."
            )
        store = settings.store or None
        if store is None and settings.store_file is not None:
            store = _line(settings.store_file)
        if store is not None:
            _check_url(store)
        resolved["store"] = store
        return settings.model_copy(update=resolved)


def _check_names(variables: Iterable[str], known: set[str]) -> None:
    """Refuse a variable that would be ignored: most are misspelt."""
    for name in map(str.upper, variables):  # in any case they are read
        if name.startswith(PREFIX) and name not in known and not SERVICE_LINK.fullmatch(name):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise BadInput(f"{name} is no setting; the nearest is {nearest[0]}. Correct or remove it.")


def _check_url(url: str) -> None:
    """Refuse a store's URL of which a part would be read as another, or not at all. Never quotes it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    netloc = parts.netloc
    if "#" in url or url.count("@") > netloc.count("@") or netloc.count("@") > 1:
        raise BadInput(
            "The store's URL (REELRANK_STORE) has a special character that is not percent-encoded. In user, "
            "password and options write @ as %40, # as %23, / as %2F, ? as %3F, [ as %5B and % as %25."
        )
    if parts.scheme in ("redis", "rediss") and not re.fullmatch(r"/?\d*", parts.path):
        raise BadInput("The store's URL (REELRANK_STORE) may end in the number of a database and no name.")


def _line(path: Path) -> str:
    """The one line of a file."""
    try:
        url = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"REELRANK_STORE_FILE: {path} cannot be read: {e}.") from e
    if not url or "\n" in url:
        raise BadInput(f"REELRANK_STORE_FILE: {path} must hold one line, the store's URL.")
    return url
