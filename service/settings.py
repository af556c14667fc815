"""`REELRANK_*`: every setting of the service, its default and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

import models
from models.errors import BadInput

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Read from the environment; `serve`'s options override. Immutable, so every worker sees the same."""

    model_config = SettingsConfigDict(env_prefix="REELRANK_", frozen=True, extra="forbid")

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
    split: str | None = None
    """`VERSION=SHARE`: this share of the users, 0 to 1, is answered by that version, until a call or the file
    `SPLIT` beside `CURRENT` says otherwise."""
    shadow: str | None = None
    """The same of a version that scores a share of the requests unseen; the file is `SHADOW`."""

    sequence_length: Count = 100
    """Exposures kept a user, the newest."""
    idempotency_window_s: Count = 86_400
    """For how long a repeated `event_id` is known to be one."""
    retention_s: Count = 90 * 86_400
    """For how long sequences, profiles and the catalogue are kept after the last write."""
    late_s: Seconds = 0.0
    """Events older than this are labelled and not stored. 0: no limit, history is welcome."""

    max_body_bytes: Count = 2 * 1024 * 1024
    """Of a JSON body; an NDJSON body has no limit, each of its lines has."""
    max_events: Count = 10_000
    """Of one JSON body, and entries of one PUT."""
    max_candidates: Count = 2_000
    """Of one slate."""
    deadline_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 200.0
    """Time POST /rerank may take when the request has no `X-Deadline-Ms`."""

    label_deadline_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10_000.0
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
    body_timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
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
    poll_s: Annotated[float, Field(gt=0)] = 0.5
    """How often `CURRENT`, `SPLIT`, `SHADOW` and the catalogue are looked at."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written to standard error."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto` is text on a terminal and JSON lines elsewhere."""
    access_log: Literal["off", "errors", "all"] = "errors"
    """Which requests have a line, besides those that failed or were slow."""
    slow_ms: Annotated[float, Field(gt=0)] = 100.0
    """A request that takes longer has a line in the log."""
    tracing: Literal["off", "otlp"] = "off"
    """`otlp` sends spans; the extra `tracing` must be installed."""
    trace_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of the requests whose caller has not decided (`traceparent`), how many have spans."""
    drain_s: Seconds = 0.0
    """After SIGTERM: how long to go on serving, not ready, until the balancer has looked away."""
    grace_s: Annotated[float, Field(gt=0)] = 10.0
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
            BadInput: a variable has a value its setting cannot take, or a file that it names cannot be read.
        """
        try:
            settings = cls(**{name: value for name, value in options.items() if value is not None})
        except ValidationError as e:
            first = e.errors(include_input=False)[0]
            name = "REELRANK_" + "_".join(str(part) for part in first["loc"]).upper()
            raise BadInput(f"{name}: {first['msg']}.") from None
        resolved: dict[str, object] = {"data_dir": settings.data_dir.expanduser()}
        if settings.store is None and settings.store_file is not None:
            resolved["store"] = _line(settings.store_file)
        return settings.model_copy(update=resolved)


def _line(path: Path) -> str:
    """The one line of a file."""
    try:
        url = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"REELRANK_STORE_FILE: {path} cannot be read: {e}.") from e
    if not url or "\n" in url:
        raise BadInput(f"REELRANK_STORE_FILE: {path} must hold one line, the store's URL.")
    return url
