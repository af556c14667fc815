"""`python -m service`: serve, consume, replay, demo, ledger, experiment, store, catalogue.

Each command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from models.errors import ReelrankError
from service import package_version

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

EXTRAS: Final = {
    "onnxruntime": "pip install 'reelrank[cpu]' or 'reelrank[gpu]'",
    "confluent_kafka": "pip install 'reelrank[kafka]'",
    "opentelemetry": "pip install 'reelrank[tracing]'",
}
"""How to install a module that is not a dependency of every command."""

LISTED: Final = (
    "Other users see it in the list of processes: put one with a password into REELRANK_STORE_FILE."
)

Port = Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")]
Url = Annotated[str | None, typer.Option(help="URL of the service; http://127.0.0.1:PORT if left out.")]
Bundle = Annotated[
    Path | None, typer.Option(help="A folder of versions with CURRENT, or one version's folder.")
]
Key = Annotated[
    str,
    typer.Option(
        envvar="REELRANK_API_KEY",
        help="API key with the right `label`; better from the environment, the list of processes shows it.",
    ),
]


def _print_version(requested: bool) -> None:
    if requested:
        print(f"reelrank {package_version()}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Serve learned labels and re-ranked slates of short videos."""


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address; loopback only without API keys.")] = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    bundle: Bundle = None,
    store: Annotated[
        str | None, typer.Option(help=f"redis://… or unix://…; without it an own server is started. {LISTED}")
    ] = None,
) -> None:
    """Answer requests until Ctrl-C."""
    from service.commands.serve import serve as run
    from service.settings import Settings

    run(Settings.read(bundle=bundle, store=store), host=host, port=port, workers=workers)


@app.command()
def consume(
    source: Annotated[
        str,
        typer.Option(help=f"kafka://broker:9092,…/topic or redis://…; the store if left out. {LISTED}"),
    ] = "",
    sink: Annotated[
        str, typer.Option(help="kafka://broker:9092,… or redis://…; the store if left out.")
    ] = "",
    kafka_properties: Annotated[
        Path | None,
        typer.Option(help="File of Kafka's options, name=value a line: sasl.username, sasl.password, …"),
    ] = None,
    stream: Annotated[
        str, typer.Option(help="Stream of events in Redis; their field `event` is JSON.")
    ] = "reelrank:events",
    group: Annotated[str, typer.Option(help="Consumer group, which shares the events.")] = "reelrank",
    labels: Annotated[
        str | None, typer.Option(help="Stream or topic of labels: reelrank:labels, in Kafka reelrank.labels.")
    ] = None,
    dead: Annotated[
        str | None,
        typer.Option(help="Stream or topic of dead letters: reelrank:dead, in Kafka reelrank.dead."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Unique name of this consumer; HOST-PID if left out.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=5_000, help="Events at once.")] = 500,
    labels_wanted: Annotated[
        str, typer.Option(help="Label makers, separated by commas; the bundle's first if left out.")
    ] = "",
    idle_s: Annotated[
        float, typer.Option(min=0.05, help="Claim entries pending with another consumer for longer.")
    ] = 60.0,
    deliveries: Annotated[
        int, typer.Option(min=1, help="An event delivered more often becomes a dead letter.")
    ] = 5,
    maxlen: Annotated[
        int, typer.Option(min=1, help="Approximate length of the streams of labels and dead letters.")
    ] = (1_000_000),
    trim: Annotated[bool, typer.Option(help="Remove events that every group has acknowledged.")] = False,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="For Prometheus; 0: none.")] = 0,
    metrics_host: Annotated[str, typer.Option(help="Address for that.")] = "127.0.0.1",
    bundle: Bundle = None,
    store: Annotated[
        str | None,
        typer.Option(help=f"redis://… or unix://…: state and streams; same as the service's. {LISTED}"),
    ] = None,
) -> None:
    """Label the events of a Redis Stream or a topic of Kafka until Ctrl-C."""
    from service.commands.consume import consume as run
    from service.settings import Settings
    from service.stream.consumer import ConsumerConfig
    from service.stream.redis_stream import Names

    wanted = tuple(filter(None, (part.strip() for part in labels_wanted.split(","))))
    prefix = "reelrank." if sink.startswith("kafka:") else "reelrank:"
    run(
        Settings.read(bundle=bundle, store=store),
        Names(
            stream,
            group,
            name or f"{socket.gethostname()}-{os.getpid()}",
            labels or f"{prefix}labels",
            dead or f"{prefix}dead",
        ),
        ConsumerConfig(batch=batch, labels=wanted, idle_s=idle_s, deliveries=deliveries, trim=trim),
        maxlen=maxlen,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        source=source,
        sink=sink,
        properties=kafka_properties,
    )


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(metavar="FILE|-", help="NDJSON, CSV or .parquet; - is standard input.")
    ],
    port: Port = 8000,
    url: Url = None,
    rate: Annotated[float, typer.Option(min=0, help="Events/s; 0 is no limit.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events a request.")] = 500,
    progress: Annotated[
        Path | None, typer.Option(help="File with the position reached, from which the next call resumes.")
    ] = None,
    key: Key = "",
) -> None:
    """Send events from a file through a running service; exit code 1 if any was rejected."""
    from service.commands.replay import replay as run

    run(source, url or f"http://127.0.0.1:{port}", rate=rate, batch=batch, progress=progress, key=key)


@app.command()
def demo(
    port: Port = 8000,
    url: Url = None,
    key: Key = "",
    svg: Annotated[Path | None, typer.Option(help="Write a picture of it here.")] = None,
) -> None:
    """Label what two users with opposite tastes do, and rank a slate for each, with a running service."""
    from service.commands.demo import demo as run

    run(url or f"http://127.0.0.1:{port}", key=key, svg=svg)


ledger = typer.Typer(invoke_without_command=True, help="Print the unlearning ledger, or honour it.")
app.add_typer(ledger, name="ledger")


@ledger.callback()
def print_ledger(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option(help="Only requests since a date, a time, or Unix milliseconds.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="NDJSON, as `python -m training prepare --forget` reads it.")
    ] = False,
) -> None:
    """Print the unlearning ledger under REELRANK_DATA_DIR."""
    from service.commands.ledger import export

    if context.invoked_subcommand is None:
        export(since, as_json=as_json)


@ledger.command("purge")
def purge_log(
    ledgers: Annotated[
        list[Path] | None,
        typer.Option("--ledger", help="Ledgers of other services, beside the one under REELRANK_DATA_DIR."),
    ] = None,
) -> None:
    """Remove the users of the ledger from the served log (REELRANK_LOG_DIR); the service may run."""
    from service.commands.ledger import purge

    purge(ledgers or ())


experiment = typer.Typer(no_args_is_help=True, help="Experiments on the users of a folder of versions.")
app.add_typer(experiment, name="experiment")


@experiment.command("start")
def start_experiment(
    name: Annotated[str, typer.Argument(help="A name that was not used before.")],
    arms: Annotated[
        str,
        typer.Option(help="A=VERSION[:weights.json],B=…; the first is the control; or `current`."),
    ],
    share: Annotated[float, typer.Option(help="Of the users, in equal parts for the arms.")] = 1.0,
    bundle: Bundle = None,
) -> None:
    """Let arms answer a share of the users; running services follow."""
    from service.commands.experiment import start
    from service.settings import Settings

    start(Settings.read(bundle=bundle).bundle, name, arms, share)


@experiment.command("status")
def experiment_status(
    as_json: Annotated[bool, typer.Option("--json", help="NDJSON.")] = False, bundle: Bundle = None
) -> None:
    """List the experiments, oldest first."""
    from service.commands.experiment import status
    from service.settings import Settings

    status(Settings.read(bundle=bundle).bundle, as_json=as_json)


@experiment.command("stop")
def stop_experiment(
    name: Annotated[str, typer.Argument(help="Of a running experiment.")], bundle: Bundle = None
) -> None:
    """End an experiment; running services follow."""
    from service.commands.experiment import stop
    from service.settings import Settings

    stop(Settings.read(bundle=bundle).bundle, name)


store_commands = typer.Typer(no_args_is_help=True, help="The embedded store under REELRANK_DATA_DIR.")
app.add_typer(store_commands, name="store")


@store_commands.command()
def repair() -> None:
    """Drop the damaged end of the store's file and print what is kept, while no service runs on it."""
    from service.commands.store import repair as run

    run()


catalogue = typer.Typer(no_args_is_help=True, help="The catalogue file, which all workers share.")
app.add_typer(catalogue, name="catalogue")


@catalogue.command()
def build(
    out: Annotated[Path, typer.Option(help="The file, for REELRANK_CATALOGUE; replaced atomically.")],
    source: Annotated[
        str | None, typer.Option(help="NDJSON, one video a line as in PUT /videos; - is standard input.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help=f"Or what was PUT: redis://… or unix://…; REELRANK_STORE if left out. {LISTED}"),
    ] = None,
) -> None:
    """Write a catalogue file; a running service picks it up."""
    from service.commands.catalogue import build as run

    run(out, source=source, store=store)


@catalogue.command()
def check(file: Annotated[Path, typer.Argument(help="A catalogue file.")]) -> None:
    """Verify a catalogue file and print a summary."""
    from service.commands.catalogue import check as run

    run(file)


def main() -> None:
    """Run a command; report what is wrong in one line on standard error, with exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        app()
    except ReelrankError as e:
        _fail(str(e))
    except ModuleNotFoundError as e:
        package = (e.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        _fail(f"{package} is not installed. Install an extra that has it: {EXTRAS[package]}.")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _fail(reason: str) -> NoReturn:
    print(f"reelrank: {reason}", file=sys.stderr, flush=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
