"""Options of the commands that read a log of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="own: user_id=uid,like=liked|favorited,watch_time_s=played:ms; what is not given is guessed",
    ),
]
MappingFile = Annotated[
    Path | None,
    typer.Option("--mapping", help="own, served: a mapping.json; own finds one beside the log"),
]
Videos = Annotated[Path | None, typer.Option(help="own, served: a table of videos, joined by video_id")]
Users = Annotated[Path | None, typer.Option(help="own, served: a table of users, joined by user_id")]
UtcOffset = Annotated[float | None, typer.Option(help="own: hours by which the log's days are ahead of UTC")]
MainTab = Annotated[str | None, typer.Option(help="own: the tab in which watch time is evaluated")]
