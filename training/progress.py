"""Progress of long commands: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY_S: Final = 10.0
"""Between two lines of a stage where there is no terminal."""
_SHOWN: Final = 3
"""Figures of an epoch, the first ones."""


class Display(Protocol):
    """Shows the progress of a command by stages."""

    def __call__(self, stage: str, share: float) -> None:
        """Show the share of a stage that is done."""
        ...

    def epoch(self, stage: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Show what was measured after an epoch."""
        ...


class Bars:
    """A bar for each stage.

    Args:
        bars: of a terminal, with a field `figures`.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, share: float) -> None:
        """Move the stage's bar."""
        self._bars.update(self._task(stage), completed=share)

    def epoch(self, stage: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Write the figures beside the stage's bar."""
        self._bars.update(self._task(stage), figures=_described(epoch, figures))

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=1.0, figures="")
        return self._tasks[stage]


class Lines:
    """A line when a stage ends and every `EVERY_S` before, for the logs of machines.

    Args:
        write: takes a line.
        clock: seconds.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._began: dict[str, float] = {}
        self._figures: dict[str, str] = {}
        self._ended: set[str] = set()
        self._last = clock()

    def __call__(self, stage: str, share: float) -> None:
        """Write a line if one is due."""
        now = self._clock()
        spent = now - self._began.setdefault(stage, now)
        ends = share >= 1.0 and stage not in self._ended
        if not ends and (share >= 1.0 or now - self._last < EVERY_S):
            return
        self._last = now
        if ends:
            self._ended.add(stage)
        time_left = f", {_duration(spent / share - spent)} left" if 0 < share < 1 else f", {_duration(spent)}"
        figures = f", {self._figures[stage]}" if stage in self._figures else ""
        self._write(f"{stage}: {share:.0%}{time_left}{figures}")

    def epoch(self, stage: str, epoch: int, figures: Mapping[str, float]) -> None:
        """Remember the figures for the stage's next line."""
        self._figures[stage] = _described(epoch, figures)


@contextmanager
def progress() -> Iterator[Display]:
    """Yield a display on stderr, so that stdout stays clean."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(lambda line: print(line, file=sys.stderr, flush=True))
        return
    columns = (
        TextColumn("{task.description:>14}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield Bars(bars)


def _described(epoch: int, figures: Mapping[str, float]) -> str:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in list(figures.items())[:_SHOWN])
    return f"epoch {epoch + 1}: {shown}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
