"""Experiments: arms of different versions or weights, each answering users that a hash assigns to it.

    bundles/EXPERIMENTS     JSON beside `CURRENT`: every worker follows it, and it outlives a restart

A hash of the user gives one of `BUCKETS` buckets. Experiments that run at the same time own different ones,
so that a user is in at most one of them; within it a second hash, salted with its name, gives the arm.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np

from models.errors import BadInput, BundleNotFound, CorruptBundle, Invalid
from models.fusion import fuse
from models.manifest import EXPECTED_WATCH_TIME, Manifest
from models.runtime import Bundle

FILE: Final = "EXPERIMENTS"

BUCKETS: Final = 10_000
"""Shares are multiples of one in so many."""

CURRENT: Final = "current"
"""Version of an arm that is answered by the active bundle, whichever it is."""

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Name = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{_NAME}$"})]


class Arm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of the rankings that an experiment compares."""

    name: Name
    version: str = CURRENT
    """`current`: the active version, also after it has changed."""
    weights: dict[str, float] | None = None
    """In place of the version's; those of a request come before."""


class NewExperiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What starts an experiment. Its arms get equal parts of the share; the first is the control."""

    name: Name
    share: Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 1 / BUCKETS, "maximum": 1})]
    """Of the users, a ten-thousandth to 1."""
    arms: Annotated[list[Arm], msgspec.Meta(extra_json_schema={"minItems": 2})]

    def __post_init__(self) -> None:
        for name in (self.name, *(arm.name for arm in self.arms)):
            if not re.fullmatch(_NAME, name):
                raise ValueError(
                    "`name` must be 1 to 64 letters, digits, `.`, `_` and `-`, and begin with one of the "
                    f"first two, found {name[:80]!r}"
                )
        if not 1 / BUCKETS <= self.share <= 1:
            raise ValueError(f"`share` must be {1 / BUCKETS} to 1, found {self.share:g}")
        if len(self.arms) < 2:
            raise ValueError(f"`arms` must be two or more, found {len(self.arms)}")
        if len(names := {arm.name for arm in self.arms}) < len(self.arms):
            raise ValueError(
                f"`arms` must be of different names, found {len(self.arms)} of {len(names)} names"
            )


class Experiment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An experiment that runs or has run."""

    name: str
    share: float
    arms: list[Arm]
    buckets: list[tuple[int, int]]
    """Its parts of the `BUCKETS`: first, and one past the last."""
    started_ms: int
    stopped_ms: int | None = None

    @property
    def versions(self) -> list[str]:
        """Versions that must be in memory for it."""
        return [arm.version for arm in self.arms if arm.version != CURRENT]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm of a user."""

    experiment: str
    arm: Arm
    bundle: Bundle | None
    """`None`: the active one."""


@dataclass(frozen=True, slots=True)
class LoadedExperiment:
    """A running experiment, with the bundles of its arms."""

    experiment: Experiment
    bundles: Sequence[Bundle | None]
    """In the order of its arms; `None`: the active one."""


def assignment(user_id: str, loaded: Sequence[LoadedExperiment]) -> Assignment | None:
    """Return the arm of a user: the same in every request and worker, as long as the experiment runs."""
    bucket = _hash(user_id, "bucket") % BUCKETS
    for each in loaded:
        experiment = each.experiment
        if any(first <= bucket < end for first, end in experiment.buckets):
            index = _hash(user_id, experiment.name) % len(experiment.arms)
            return Assignment(experiment.name, experiment.arms[index], each.bundles[index])
    return None


def check_weights(arm: Arm, manifest: Manifest) -> None:
    """Check that a bundle can fuse its objectives with the weights of an arm.

    Raises:
        BadInput: it cannot.
    """
    if arm.weights is not None:
        names = {*manifest.objectives, *({o.name for o in manifest.ranker.outputs} & {EXPECTED_WATCH_TIME})}
        try:
            fuse(dict.fromkeys(names, np.ones(1, np.float32)), arm.weights)
        except BadInput as e:
            raise Invalid(f"Arm {arm.name!r}: {e}", loc="arms") from None


class ExperimentsFile:
    """The file `EXPERIMENTS`.

    Args:
        folder: of the versions.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def read(self) -> list[Experiment]:
        """Return all experiments, oldest first.

        Raises:
            CorruptBundle: the file cannot be read, or holds something else.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Experiment])
        except FileNotFoundError:
            return []
        except OSError as e:
            raise CorruptBundle(f"{self._path} cannot be read: {e.strerror}. It is looked at again.") from e
        except ValueError as e:
            raise CorruptBundle(f"{self._path} is damaged: {e}. Restore or remove it.") from e

    def running(self) -> list[Experiment]:
        """Return the experiments that run; raises as `read` does."""
        return [experiment for experiment in self.read() if experiment.stopped_ms is None]

    def start(self, new: NewExperiment) -> Experiment:
        """Add an experiment, on buckets that no other one owns.

        Raises:
            Invalid: there was one of this name, or not enough users are free.
            BadInput: the file cannot be written.
            CorruptBundle: it cannot be read.
        """
        with self._locked():
            known = self.read()
            if any(experiment.name == new.name for experiment in known):
                detail = f"There was an experiment {new.name!r} before; name this one otherwise."
                raise Invalid(detail, loc="name")
            buckets = _free_buckets(known, round(new.share * BUCKETS))
            started = Experiment(
                name=new.name, share=new.share, arms=new.arms, buckets=buckets, started_ms=_now_ms()
            )
            self._write([*known, started])
            return started

    def stop(self, name: str) -> Experiment:
        """Stop an experiment; nothing happens to one that has stopped.

        Raises:
            BundleNotFound: there is none of this name.
            BadInput: the file cannot be written.
            CorruptBundle: it cannot be read.
        """
        with self._locked():
            by_name = {experiment.name: experiment for experiment in self.read()}
            if name not in by_name:
                raise BundleNotFound(f"There is no experiment {name[:64]!r}.")
            if by_name[name].stopped_ms is None:
                by_name[name] = msgspec.structs.replace(by_name[name], stopped_ms=_now_ms())
                self._write(list(by_name.values()))
            return by_name[name]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time change the file."""
        with self._writable(), self._path.with_name(f".{FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, experiments: list[Experiment]) -> None:
        draft = self._path.with_name(f".{FILE}.{os.getpid()}.draft")
        with draft.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(experiments)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise BadInput(
                f"{self._path} cannot be written: {e.strerror or e}. The folder of versions must be one that "
                "this user may write to, with space left."
            ) from e


def _free_buckets(experiments: Sequence[Experiment], count: int) -> list[tuple[int, int]]:
    """Return the first free buckets, as ranges."""
    free = np.ones(BUCKETS, np.bool_)
    for experiment in experiments:
        if experiment.stopped_ms is None:
            for first, end in experiment.buckets:
                free[first:end] = False
    taken = np.flatnonzero(free)[:count]
    if len(taken) < count:
        raise Invalid(
            f"`share` is {count / BUCKETS:g}, and {free.sum() / BUCKETS:g} of the users are free. "
            "Stop an experiment, or take fewer.",
            loc="share",
        )
    parts = np.split(taken, np.flatnonzero(np.diff(taken) > 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def _hash(user_id: str, salt: str) -> int:
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8, key=salt.encode()).digest())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
