"""The command `fit`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from training.command_line import Data, Json, Seed, print_metrics, write_json
from training.data import load, read_likes_hates
from training.loggers import Logger, open_logger
from training.progress import Lines, progress
from training.provenance import provenance
from training.train import run_folder
from training.train.checkpoints import what_is_left
from training.train.chosen_config import chosen_config
from training.train.process_group import (
    LOST,
    LOST_WAITS_S,
    ProcessLost,
    launched_by_torchrun,
    process_group,
    rank,
)
from training.verdict import verdict


def fit(
    recipe: Annotated[
        str, typer.Argument(help="a function of `training.train.recipes`; a wrong one lists them")
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="a new folder for the run")],
    seed: Seed = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="change a field of the recipe, such as loop.epochs=6; a wrong name lists those near it; "
            "repeatable",
        ),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="JSON of the fields to change, nested; --set overrides it")
    ] = None,
    test_days: Annotated[
        int | None, typer.Option(min=1, help="the last days, evaluated once; by default those of the recipe")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue from what a stopped fit into this folder has finished")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="fit the ranker in so many processes, which share each batch")
    ] = 1,
    threads: Annotated[int, typer.Option(help="of torch, a process; 0 leaves it to torch")] = 0,
    device: Annotated[
        str | None,
        typer.Option(help="where the ranker's steps are computed, by torch's name: cpu, cuda, cuda:1"),
    ] = None,
    log: Annotated[Logger | None, typer.Option(help="send the figures of each epoch there, too")] = None,
    likes_hates: Annotated[
        Path | None,
        typer.Option(help="a folder of liked and hated rows: labels learn from half of their users, too"),
    ] = None,
    figures: Json = None,
) -> None:
    """Fit a recipe, evaluate it on days it has not seen, and fit it again on all days for release.

    `torchrun -m training fit ...` fits on several machines: each reads the log, the first one writes the run.
    """
    config = chosen_config(
        recipe,
        seed=seed,
        test_days=test_days,
        device=device,
        file=config_file,
        assignments=changes or (),
    )
    if processes > 1 and not launched_by_torchrun():
        from training.train.supervisor import fit_in_processes  # torch.distributed.elastic takes a second

        raise typer.Exit(fit_in_processes(processes, sys.argv[1:], partial(typer.echo, err=True)))
    if threads:
        torch.set_num_threads(threads)
    liked_or_hated = None if likes_hates is None else read_likes_hates(likes_hates)
    dataset = load(data)
    with process_group():
        first = rank() == 0
        try:
            with (
                progress() if first else nullcontext(Lines(lambda line: None)) as display,
                open_logger(log if first else None, out, config) as send,
            ):

                def on_epoch(stage: str, epoch: int, figures: Mapping[str, float]) -> None:
                    display.epoch(stage, epoch, figures)
                    send(stage, epoch, figures)

                def say(note: str) -> None:
                    if first:
                        typer.echo(note, err=True)

                evaluation = run_folder.fit(
                    dataset,
                    recipe,
                    config,
                    out,
                    display,
                    liked_or_hated,
                    on_epoch=on_epoch,
                    on_note=say,
                    resume=resume,
                )
        except ProcessLost as e:
            time.sleep(LOST_WAITS_S)
            raise typer.Exit(LOST) from e
        except (KeyboardInterrupt, SystemExit):
            if first:
                typer.echo(f"stopped; {what_is_left(out)}", err=True)
            raise
    if not first:
        return
    write_json(figures, {**provenance(), **evaluation.model_dump()})
    print_metrics(evaluation.metrics, evaluation.by_tab, evaluation.baselines)
    typer.echo(verdict(evaluation.comparisons))
    typer.echo(f"wrote {out}")
