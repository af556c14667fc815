"""How log records are written: JSON lines for machines, aligned text for people; always on standard error.

Modules log through `logging`, with searchable fields in `extra`. Never in a record: bodies, keys,
the `Authorization` header, user ids, raw paths and queries.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import structlog
from structlog.types import Processor

from service.telemetry.line_limiter import LineLimiter

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "text"]


class LineLimit(logging.Filter):
    """Drops records of a line of code that logs more often than it may; the next one counts them.

    Records of requests are not looked at: they have limits of their own, unless all of them are wanted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limiter = LineLimiter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if record.name == "reelrank.requests":
            return True
        suppressed = self._limiter.take((record.pathname, record.lineno))
        if suppressed:
            record.suppressed = suppressed
        return suppressed is not None


_CONTEXT: Final[list[Processor]] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(severity: Level, form: Format) -> None:
    """Send every record of this process, uvicorn's and other libraries' too, through one handler.

    Args:
        severity: the lowest that is written.
        form: `auto` is text on a terminal and JSON elsewhere.
    """
    terminal = sys.stderr.isatty()
    last: list[Processor]
    if form == "text" or (form == "auto" and terminal):
        # Not the traceback of `rich`, which shows the values of local variables: keys and bodies among them.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=plain)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_CONTEXT,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(LineLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(severity.upper())
    # On `info`, uvicorn logs that it starts and stops; so do we, with the bundle.
    logging.getLogger("uvicorn").setLevel(severity.upper() if severity != "info" else "WARNING")
