"""What a stopped fit continues from: finished stages and the newest epoch, each a file that appears whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import torch

from models.errors import BadInput
from training.staging import locked, refuse_existing, replace_text
from training.train.process_group import on_first, processes, rank

T = TypeVar("T")

State = dict[str, Any]
"""Tensors, numbers and strings, and lists and dicts of them: what `torch.load` reads without running it."""

_IDENTITY: Final = "identity.json"


class Stateful(Protocol):
    """Something that can be saved and restored, as optimisers and modules can."""

    def state_dict(self) -> State:
        """Return everything that later behaviour depends on."""
        ...

    def load_state_dict(self, state_dict: State, /) -> Any:
        """Continue from what `state_dict` returned."""
        ...


class RandomState:
    """The state of a NumPy generator.

    Args:
        random: restored in place.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def state_dict(self) -> State:
        """Return the state of its bit generator."""
        return dict(self._random.bit_generator.state)

    def load_state_dict(self, state_dict: State, /) -> None:
        """Draw from here on what was drawn after that state."""
        self._random.bit_generator.state = state_dict


class Checkpoint:
    """A state in a file that is replaced as a whole.

    Args:
        path: the file; without one nothing is kept.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def read(self) -> State | None:
        """Return what was written last, if anything was.

        Raises:
            BadInput: the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state: State = torch.load(self.path, weights_only=True)
        except Exception as e:  # of torch, of zipfile and of pickle, as it is damaged
            raise BadInput(f"{self.path} is damaged; remove {self.path.parent} and fit anew.") from e
        return state

    def write(self, state: State) -> None:
        """Replace the state; it is on disk when this returns."""
        if self.path is None:
            return
        self.path.parent.mkdir(exist_ok=True)
        draft = self.path.with_suffix(".draft")
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)


class GroupCheckpoint(Checkpoint):
    """A checkpoint that the first process of a group keeps, and from which all of them continue."""

    def read(self) -> State | None:
        """Return what the first process wrote last, on every process."""
        return on_first(super().read)


class Checkpoints:
    """The checkpoints of one fit, by name. Of the processes that fit together, the first one keeps them.

    Args:
        folder: where they are; without one nothing is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def part(self, name: str) -> Checkpoints:
        """Return those of a part of the fit, which has names of its own."""
        return Checkpoints(None if self.folder is None else self.folder / name)

    def named(self, name: str) -> Checkpoint:
        """Return the checkpoint of this name."""
        return Checkpoint(None if self.folder is None else self.folder / f"{name}.pt")

    def of_group(self, name: str) -> GroupCheckpoint:
        """Return the checkpoint of this name of what all processes compute together."""
        return GroupCheckpoint(self.named(name).path)

    def stage(
        self,
        name: str,
        compute: Callable[[], T],
        save: Callable[[T], State],
        restore: Callable[[State], T],
        *,
        together: bool = False,
    ) -> T:
        """Return the result of a stage: restored if it was finished before, otherwise computed and saved.

        Args:
            name: the stage's.
            compute: returns the result.
            save: the result as a state.
            restore: the result of a state.
            together: whether all processes of the group compute it, because they take steps in it; otherwise
                the first one does, and the others restore what it has.
        """
        checkpoint = self.named(name)
        state = on_first(checkpoint.read)
        if state is not None:
            return restore(state)
        if together or processes() == 1:
            result = compute()
            checkpoint.write(save(result))
            return result

        def finish() -> State:
            state = save(compute())
            checkpoint.write(state)
            return state

        return restore(on_first(finish))


def checkpoint_folder(out: Path) -> Path:
    """Return where the checkpoints of a fit into `out` are until it is finished."""
    return out.parent / f".{out.name}.checkpoints"


def what_is_left(out: Path) -> str:
    """Say what a fit into `out` that was stopped has left, and how to continue."""
    folder = checkpoint_folder(out)
    if not folder.exists():
        return "nothing was finished yet, and nothing is left"
    return f"what is finished is in {folder}: the same command with --resume continues from there"


@contextmanager
def open_checkpoints(out: Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[Checkpoints]:
    """Yield the checkpoints of a fit into `out`.

    They are removed when the block succeeds, or refuses its input: it would do so again. Whatever else ends
    it leaves what is finished. Of the processes that fit together, only the first one has a folder.

    Args:
        out: the folder that the fit writes.
        identity: everything that decides its result, as JSON.
        resume: continue from what an earlier fit left, if it left anything.

    Raises:
        BadInput: `out` exists, another process fits into it, or an earlier fit left checkpoints that are not
            to be resumed, or are those of another fit; the first difference is named.
    """
    if rank() > 0:
        yield Checkpoints()
        return
    refuse_existing(out)
    folder = checkpoint_folder(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadInput(f"cannot write beside {out}: {e.strerror}; give another folder.") from e
    try:
        with locked(folder):
            _begin(folder, identity, resume=resume)
            try:
                yield Checkpoints(folder)
            except BadInput:
                shutil.rmtree(folder)
                raise
            except BaseException:
                if not any(folder.rglob("*.pt")):
                    shutil.rmtree(folder)
                raise
            shutil.rmtree(folder)
    except BlockingIOError as e:
        raise BadInput(f"another process is fitting into {out}; wait for it, or give another folder.") from e


def _begin(folder: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
    path = folder / _IDENTITY
    if any(folder.rglob("*.pt")):
        if not resume:
            raise BadInput(
                f"a fit into this folder was stopped, and {folder} has what it finished: continue with "
                "--resume, or remove it to begin anew."
            )
        before, now = _leaves(json.loads(path.read_text())), _leaves(json.loads(json.dumps(identity)))
        changed = next((name for name in before | now if before.get(name) != now.get(name)), None)
        if changed is not None:
            raise BadInput(
                f"the fit that was stopped is another one: `{changed}` was {before.get(changed)!r} and is "
                f"{now.get(changed)!r} now. Resume with what it had, or remove {folder} to begin anew."
            )
    replace_text(path, json.dumps(identity, indent=1) + "\n")


def _leaves(document: Any, name: str = "") -> dict[str, Any]:
    """Return the values of nested members by their dotted names."""
    if not isinstance(document, dict):
        return {name: document}
    members = (_leaves(value, f"{name}.{key}" if name else key) for key, value in document.items())
    return {leaf: value for each in members for leaf, value in each.items()}
