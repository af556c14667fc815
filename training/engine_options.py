"""Options of the commands that run on Spark as well."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from models.errors import BadInput

Engine = Annotated[
    Literal["single", "spark"], typer.Option(help="`single` for this process, or `spark`: a cluster")
]
Master = Annotated[
    str | None,
    typer.Option(
        help="spark: local[4], spark://HOST:7077, yarn, ...; by default as spark-submit says, or this machine"
    ),
]
Remote = Annotated[str | None, typer.Option(help="spark: a Spark Connect server, sc://HOST:15002")]


def refuse_cluster(master: str | None, remote: str | None) -> None:
    """Refuse a cluster's address where one process does the work.

    Raises:
        BadInput: there is one.
    """
    if master or remote:
        raise BadInput("--master and --remote are for --engine spark.")
