"""A Markov decision process as files: what was known, what could be shown, what was, and what it earned."""

# Shape suffixes: N steps, C candidates, S columns of a state.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from models.arrays import F32, I64
from models.errors import BadInput


class Steps(NamedTuple):
    """N exposures as decisions: all of a user, in the order of time, one user after the other."""

    user: I64
    """`[N]`"""
    session: I64
    """`[N]` a number that no other session has."""
    state: F32
    """`[N, S]` what was known before the exposure."""
    candidates: I64
    """`[N, C]` videos that could have been shown, as rows of the videos' vectors."""
    action: I64
    """`[N]` which of the candidates was."""
    reward: F32
    """`[N]`"""
    propensity: F32
    """`[N]` probability with which the log's policy chose it; NaN where unknown."""

    def take(self, rows: I64) -> Steps:
        """Return the steps of an index of any shape, whose axes come first."""
        return Steps(
            self.user[rows],
            self.session[rows],
            self.state[rows],
            self.candidates[rows],
            self.action[rows],
            self.reward[rows],
            self.propensity[rows],
        )


def write_steps(folder: Path, blocks: Iterator[Steps]) -> None:
    """Write steps into a new folder, a Parquet file for each block; a user is in one block alone."""
    folder.mkdir(parents=True)
    for number, steps in enumerate(blocks):
        columns: dict[str, pl.Series] = {}
        for name, column in steps._asdict().items():
            kind = pl.Float32 if column.dtype == np.float32 else pl.Int64
            width = column.shape[1:]
            columns[name] = pl.Series(name, column, pl.Array(kind, width[0]) if width else kind)
        pl.DataFrame(columns).write_parquet(folder / f"steps-{number:06d}.parquet")


def read_steps(folder: Path, random: np.random.Generator | None = None) -> Iterator[Steps]:
    """Read block after block, so that only one is in memory, in a random order if `random` is given.

    Raises:
        BadInput: the folder has no steps.
    """
    paths = sorted(folder.glob("steps-*.parquet"))
    if not paths:
        raise BadInput(f"{folder} has no steps; write them with `write_steps`.")
    order = range(len(paths)) if random is None else random.permutation(len(paths))
    for at in order:
        table = pl.read_parquet(paths[at])
        # Copied, because torch takes no array that cannot be written to.
        yield Steps(*(table[name].to_numpy(writable=True) for name in Steps._fields))
