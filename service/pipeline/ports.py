"""What the pipelines are given: protocols of the parts that wait, run graphs, or keep something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from models.features import Array, Candidates
from models.runtime import Bundle
from models.schema import FeedbackEvent
from service.inference.serving_set import ServingSet

R = TypeVar("R")


class ServingSource(Protocol):
    """Where a request takes its serving set from."""

    def get(self) -> ServingSet:
        """Return the bundles that answer now, or raise `NotReady`."""
        ...


class VideoLookup(Protocol):
    """The catalogue, as far as it completes requests."""

    def complete(self, candidates: Candidates) -> Candidates:
        """Return the candidates with the members they lack, where these are known."""
        ...

    def complete_published(self, candidates: Candidates) -> Candidates:
        """Return the candidates with the publication times they lack, where these are known."""
        ...

    def complete_features(self, candidates: Candidates) -> Candidates:
        """Return the candidates with their own features, where these are known."""
        ...

    def complete_event(self, event: FeedbackEvent) -> FeedbackEvent:
        """Return the event with the members it lacks, where these are known."""
        ...


class Capacity(Protocol):
    """A share of the worker's capacity."""

    def take(self, size: int, time_left_s: float, caller: int) -> AbstractContextManager[Any]:
        """Return a permit for a request of this size, or raise `Overloaded`: see `Budget.take`."""
        ...


class Turns(Protocol):
    """Capacity for which steps of a large body wait."""

    async def wait(self, size: int) -> AbstractContextManager[Any]:
        """Return a permit for a step of this size when there is room."""
        ...


class Sampler(Protocol):
    """The traffic sample."""

    def add_slate(self, inputs: Mapping[str, Array]) -> None:
        """Sample what the ranker was given for a slate whose predictions are all finite."""
        ...

    def add_events(self, feedback: npt.NDArray[np.float32]) -> None:
        """Sample events `[N, 8]` whose labels are all finite."""
        ...


class Batcher(Protocol):
    """Runs of the ranker for several users together, on a GPU."""

    async def run(
        self, bundle: Bundle, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Return the outputs for one user's inputs."""
        ...


class Offload(Protocol):
    """Long computations, beside the event loop."""

    async def __call__(self, fn: Callable[[], R], /) -> R:
        """Return `fn()`, computed in a thread."""
        ...
