"""`python -m training compare`: the methods of a kind on one log, one table."""

from __future__ import annotations

import typer

from training.compare.labels.commands import labels
from training.compare.objectives.commands import objectives
from training.compare.watch_time.commands import search, variants, watch_time

app = typer.Typer(no_args_is_help=True, help="Every method of a kind on one log, with error bars.")
app.command("labels")(labels)
app.command("watch-time")(watch_time)
app.command("objectives")(objectives)
app.command("search")(search)
app.command("variants")(variants)
