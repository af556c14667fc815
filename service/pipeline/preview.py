"""Slates and labels that leave no trace: nothing is stored, counted as an answer, sampled or compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import BundleNotFound
from models.features import Array
from service.inference.serving_set import Serving, ServingSet
from service.pipeline.label import LabelPipeline
from service.pipeline.ports import ServingSource
from service.pipeline.rerank import RerankPipeline


class NoSample:
    """A traffic sample that takes nothing."""

    def add_slate(self, inputs: Mapping[str, Array]) -> None:
        """Take nothing."""

    def add_events(self, feedback: npt.NDArray[np.float32]) -> None:
        """Take nothing."""


@dataclass(frozen=True, slots=True)
class OneVersion:
    """A serving set in which one bundle answers every user."""

    serving: ServingSet

    def get(self) -> ServingSet:
        """Return that serving set."""
        return self.serving


@dataclass(frozen=True, slots=True)
class Previews:
    """The pipelines of requests, over a version of choice and without their observers.

    Args:
        serving: the bundles in memory.
        rerank_over: returns a pipeline over a serving source.
        label_over: likewise.
    """

    serving: Serving
    rerank_over: Callable[[ServingSource], RerankPipeline]
    label_over: Callable[[ServingSource], LabelPipeline]

    def rerank(self, version: str | None) -> RerankPipeline:
        """Return the pipeline of slates by a version in memory; `None` is that which answers the user.

        Raises:
            BundleNotFound: the version is not in memory.
        """
        return self.rerank_over(self._source(version))

    def label(self, version: str | None) -> LabelPipeline:
        """Return the pipeline of labels; as `rerank`."""
        return self.label_over(self._source(version))

    def _source(self, version: str | None) -> ServingSource:
        if version is None:
            return self.serving
        in_memory = self.serving.in_memory()
        if version not in in_memory:
            raise BundleNotFound(
                f"Version {version[:40]!r} is not in memory; there are {', '.join(in_memory) or 'none'}. "
                "POST /v1/models/{version}:shadow with a small share loads one."
            )
        return OneVersion(ServingSet(in_memory[version]))
