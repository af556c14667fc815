"""The command `forget`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from models.errors import BadInput, BundleError
from models.manifest import Forgetting, Manifest, Training
from models.store import BundleStore
from training.command_line import Data, Json, write_json
from training.data import Dataset
from training.export.promotion import promote_version
from training.export.run import export_run
from training.progress import progress
from training.provenance import provenance
from training.train.forget_run import forget_run

_DIGITS = {"mae_s": 2, "xauc": 4, "membership_auc": 3, "membership_auc_remaining": 3}
"""Of figures before and after."""


def forget(
    run: Annotated[Path, typer.Option(help="what `fit` wrote; it stays as it is")],
    data: Data,
    ledger: Annotated[
        list[Path],
        typer.Option(
            help="an unlearning ledger, such as the service's own file; repeatable: give all of them"
        ),
    ],
    out: Annotated[Path, typer.Option(help="a new folder for the run without what the ledgers name")],
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="fit the recipe anew on what remains, which takes as long as `fit`"),
    ] = False,
    to: Annotated[
        Path | None, typer.Option(help="export it as a bundle into this folder of versions")
    ] = None,
    promoted: Annotated[
        bool, typer.Option("--promote", help="make the bundle the active version, as `promote` does")
    ] = False,
    require: Annotated[Path | None, typer.Option(help="as of `promote`")] = None,
    force: Annotated[bool, typer.Option("--force", help="as of `promote`")] = False,
    allow_unlearned: Annotated[bool, typer.Option("--allow-unlearned", help="as of `export`")] = False,
    figures: Json = None,
) -> None:
    """Take what unlearning ledgers name out of a run's tables, or with --retrain out of all of it.

    With --to the result is exported. A result that predicts worse is refused.
    """
    if promoted and to is None:
        raise BadInput("--promote needs --to, the folder of versions.")
    with progress() as display:
        result = forget_run(
            run,
            data,
            ledger,
            out,
            retrain=retrain,
            progress=display,
            on_epoch=display.epoch,
            on_note=lambda note: typer.echo(note, err=True),
        )
    forgetting = result.training.forgetting
    write_json(
        figures,
        {
            **provenance(),
            "written": result.written,
            "training": json.loads(result.training.model_dump_json()),
        },
    )
    if forgetting is not None and result.written:
        _print(forgetting)
        typer.echo(f"wrote {out}")
        if forgetting.method == "tables":
            typer.echo("its weights were fitted with those rows; --retrain fits them without.")
    elif not result.written:
        typer.echo("nothing to forget: the run knows of nothing that the ledgers name.")
    if to is not None and (out / "config.json").is_file():
        _release(out, to, result.remaining, result.training, promoted, require, force, allow_unlearned)


def _print(forgetting: Forgetting) -> None:
    what = f"{forgetting.rows:,} rows of {forgetting.lines:,} lines"
    typer.echo(f"{what}, {forgetting.method}, {forgetting.seconds:.1f} s")
    typer.echo(f"{'':26}{'before':>10}{'after':>10}")
    for name, digits in _DIGITS.items():
        pair = [forgetting.figures.get(f"{name}_{when}") for when in ("before", "after")]
        if any(value is not None for value in pair):
            columns = "".join(
                f"{'-' if value is None else format(value, f'.{digits}f'):>10}" for value in pair
            )
            typer.echo(f"{name:26}{columns}")
    for name in ("moved_log_seconds", "moved_logit"):
        value = forgetting.figures.get(name)
        if value is not None:
            typer.echo(f"{name:26}{'':10}{value:>10.4f}")


def _release(
    out: Path,
    to: Path,
    remaining: Dataset,
    training: Training,
    promoted: bool,
    require: Path | None,
    force: bool,
    allow_unlearned: bool,
) -> None:
    store = BundleStore(to)
    active = _active(store) if promoted and not force else None
    if active is not None and (active.forgotten_until_ms or 0) > (training.forgotten_until_ms or 0):
        raise BadInput(
            f"the weights of the active version in {to} have forgotten more than those of {out}. Fit without "
            "the rows: --retrain; or promote all the same by --force."
        )
    version = _version_of(store, training)
    if version is None:
        version = export_run(out, "final", to, remaining, allow_unlearned=allow_unlearned).name
        typer.echo(f"wrote {to / version}")
    if not promoted:
        return
    if (to / "CURRENT").is_file() and store.current() == version:
        typer.echo(f"{to / 'CURRENT'} names {version} already")
        return
    promote_version(version, to, require=require, force=force, on_note=typer.echo)
    typer.echo(f"{to / 'CURRENT'} names {version}")


def _active(store: BundleStore) -> Training | None:
    """Return where the active version's weights come from; `None` where there is none that can be read."""
    with suppress(BundleError):
        return Manifest.read(store.path(store.current())).training
    return None


def _version_of(store: BundleStore, training: Training) -> str | None:
    """Return the version that a run was exported as, if it was."""
    for version in store.versions():
        with suppress(BundleError):  # those of former builds cannot be read
            if Manifest.read(store.path(version)).training == training:
                return version
    return None
