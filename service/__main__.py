"""`python -m service`: serve, consume, replay, demo, ledger, catalogue."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from models.errors import ReelrankError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Port = Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")]
Url = Annotated[str | None, typer.Option(help="Where the service is; http://127.0.0.1:PORT if left out.")]
Key = Annotated[str, typer.Option(envvar="REELRANK_API_KEY", help="An API key with the right `label`.")]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address; loopback only without API keys.")] = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    bundle: Annotated[
        Path | None, typer.Option(help="A folder of versions with CURRENT, or one version's folder.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="redis://… or unix://…; without it an own server is started.")
    ] = None,
) -> None:
    """Answer requests until Ctrl-C."""
    from service.commands.serve import serve as run
    from service.settings import Settings

    run(Settings.read(bundle=bundle, store=store), host=host, port=port, workers=workers)


@app.command()
def consume(
    stream: Annotated[str, typer.Option(help="Stream of events; their field `event` is JSON.")] = (
        "reelrank:events"
    ),
    group: Annotated[str, typer.Option(help="Consumers of one group share the events.")] = "reelrank",
    labels: Annotated[str, typer.Option(help="Stream the labels go to.")] = "reelrank:labels",
    dead: Annotated[str, typer.Option(help="Stream for what cannot be labelled, and why.")] = "reelrank:dead",
    name: Annotated[
        str | None, typer.Option(help="This consumer; its own among the running ones. HOST-PID if left out.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=5_000, help="Events at once.")] = 500,
    labels_wanted: Annotated[str, typer.Option(help="Labels, separated by commas; the bundle's first.")] = "",
    idle_s: Annotated[
        float, typer.Option(min=0.05, help="Take over what another has had for longer than this.")
    ] = 60.0,
    deliveries: Annotated[
        int, typer.Option(min=1, help="An event that was given out more often is a dead letter.")
    ] = 5,
    maxlen: Annotated[int, typer.Option(min=1, help="About how many labels and dead letters are kept.")] = (
        1_000_000
    ),
    trim: Annotated[bool, typer.Option(help="Remove events that every group has settled.")] = False,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="For Prometheus; 0: none.")] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address for that.")] = "127.0.0.1",
    bundle: Annotated[
        Path | None, typer.Option(help="A folder of versions with CURRENT, or one version's folder.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="redis://… or unix://…: state and streams; same as the service's.")
    ] = None,
) -> None:
    """Label the events of a Redis Stream until Ctrl-C."""
    from service.commands.consume import consume as run
    from service.settings import Settings
    from service.stream.consumer import Consuming
    from service.stream.redis_stream import Names

    wanted = tuple(filter(None, (part.strip() for part in labels_wanted.split(","))))
    run(
        Settings.read(bundle=bundle, store=store),
        Names(stream, group, name or f"{socket.gethostname()}-{os.getpid()}", labels, dead),
        Consuming(batch=batch, labels=wanted, idle_s=idle_s, deliveries=deliveries, trim=trim),
        maxlen=maxlen,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
    )


@app.command()
def replay(
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="NDJSON or .parquet; - is standard input.")],
    port: Port = 8000,
    url: Url = None,
    rate: Annotated[float, typer.Option(min=0, help="Events a second; 0 is flat out.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events a request.")] = 500,
    progress: Annotated[
        Path | None, typer.Option(help="Remembers how far it came; the next call goes on from there.")
    ] = None,
    key: Key = "",
) -> None:
    """Send events from a file through a running service."""
    from service.commands.replay import replay as run

    run(source, url or f"http://127.0.0.1:{port}", rate=rate, batch=batch, progress=progress, key=key)


@app.command()
def demo(port: Port = 8000, url: Url = None, key: Key = "") -> None:
    """Show a running service at work: a slate, some feedback, its labels, and the slate again."""
    from service.commands.demo import demo as run

    run(url or f"http://127.0.0.1:{port}", key=key)


@app.command()
def ledger(
    since: Annotated[
        str | None, typer.Option(help="Only requests from then on: a date, a time, or Unix milliseconds.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="NDJSON, as `python -m training prepare --forget` reads it.")
    ] = False,
) -> None:
    """Print who asked to be forgotten: the unlearning ledger under REELRANK_DATA_DIR."""
    from service.commands.ledger import export

    export(since, as_json=as_json)


catalogue = typer.Typer(no_args_is_help=True, help="A file of videos that all workers share.")
app.add_typer(catalogue, name="catalogue")


@catalogue.command()
def build(
    out: Annotated[Path, typer.Option(help="The file, for REELRANK_CATALOGUE; replaced at once.")],
    source: Annotated[
        str | None, typer.Option(help="NDJSON, one video a line as in PUT /videos; - is standard input.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Or what was PUT: redis://… or unix://…; REELRANK_STORE if left out.")
    ] = None,
) -> None:
    """Make a catalogue's file; a running service takes it over."""
    from service.commands.catalogue import build as run

    run(out, source=source, store=store)


@catalogue.command()
def check(file: Annotated[Path, typer.Argument(help="A catalogue's file.")]) -> None:
    """Read a catalogue's file once and say what is in it."""
    from service.commands.catalogue import check as run

    run(file)


def main() -> None:
    """Run a command. What is wrong is one line on standard error and exit code 2, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        app()
    except ReelrankError as e:
        print(f"reelrank: {e}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
