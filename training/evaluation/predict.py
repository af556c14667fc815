"""Run a ranker over rows of a log: a torch module, or the exported graph of a bundle."""

# Shape suffixes: R rows, T objectives.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
import torch

from models.arrays import F32, I64
from models.fusion import fuse
from models.runtime import Bundle
from training.data import Interactions
from training.device import constants_on
from training.encoders import HistoryAt, RankerInputs, batches_for
from training.rankers import MultiObjectiveRanker, Ranker, TwoObjectiveRanker

BATCH: Final = 1024
"""Rows of one call of an exported graph."""


class Law(NamedTuple):
    """Predicted distributions of watch time, members named as the outputs of a ranker."""

    anchor_weights: F32
    """`[R, K]`"""
    anchor_ratio: F32
    """`[R, K]`"""
    quantiles_s: F32
    """`[R, 3]`"""
    expected_watch_time_s: F32
    """`[R]`"""
    states: F32
    """`[R, 3]`"""


class Outputs(NamedTuple):
    """What a ranker predicts for some rows."""

    watch_time_s: F32
    """`[R]` seconds"""
    objectives: dict[str, F32]
    """`[R]` each, in [0, 1]: what the score is fused from."""
    law: Law | None = None
    """Of rows that are predicted one by one; `None` of bundles of former exports."""

    def take(self, rows: I64) -> Outputs:
        """Return the outputs of these rows."""
        objectives = {name: x[rows] for name, x in self.objectives.items()}
        law = None if self.law is None else Law(*(x[rows] for x in self.law))
        return Outputs(self.watch_time_s[rows], objectives, law)


class Predictions(NamedTuple):
    """A ranker's outputs on the same rows, predicted one by one and as slates; see `HistoryAt`."""

    pointwise: Outputs
    """Each row with all that came before it: errors and the order of predicted seconds are of these."""
    slate: Outputs
    """A user's rows as candidates of one request: the order within a user is of these."""

    def take(self, rows: I64) -> Predictions:
        """Return the predictions of these rows."""
        return Predictions(self.pointwise.take(rows), self.slate.take(rows))


class ObjectivePredictions(NamedTuple):
    """Every objective of a `MultiObjectiveRanker` on some rows."""

    seconds: F32 | None
    """`[R]`; `None` where watch time is no objective."""
    probability: F32
    """`[R, T]`, columns as `MultiObjectiveRanker.likely`."""


def predict_torch(ranker: Ranker, log: Interactions, rows: I64, length: int) -> Predictions:
    """Run the served path of a torch module over rows of a log.

    Args:
        ranker: put into evaluation mode.
        log: the log.
        rows: `[R]` rows of it.
        length: most steps of a sequence.
    """
    return Predictions(
        run_torch(ranker, log, rows, length), run_torch(ranker, log, rows, length, history_at="request")
    )


def predict_onnx(
    bundle: Bundle, log: Interactions, rows: I64, on_step: Callable[[float], None] = lambda _: None
) -> Predictions:
    """Run a bundle's exported ranker over rows of a log. Arguments as in `predict_torch`."""
    return Predictions(
        run_onnx(bundle, log, rows, lambda share: on_step(share / 2)),
        run_onnx(bundle, log, rows, lambda share: on_step((1 + share) / 2), history_at="request"),
    )


def run_torch(
    ranker: Ranker, log: Interactions, rows: I64, length: int, *, history_at: HistoryAt = "row"
) -> Outputs:
    """Run the served path of a torch module over rows of a log, in one of the two ways of `HistoryAt`."""
    ranker.eval()
    names = ("watch_time_s", *ranker.objectives, *(Law._fields if history_at == "row" else ()))

    def answers() -> Iterable[Mapping[str, F32]]:
        for x in batches_for(log, rows, length, history_at=history_at):
            out = ranker(*x)
            by_name = out._asdict() | dict(zip(ranker.objectives, out.objectives.unbind(-1), strict=True))
            yield {name: by_name[name][:, 0].numpy() for name in names}

    with torch.no_grad():
        return _joined(names, answers())


def score_torch(ranker: Ranker, weights: Mapping[str, float], x: RankerInputs) -> F32:
    """Return the score of requests of one candidate each, `[B]`."""
    ranker.eval()
    with torch.no_grad():
        objectives = ranker(*x).objectives[:, 0].numpy()
    return fuse(dict(zip(ranker.objectives, objectives.T, strict=True)), weights)[0]


def score_onnx(bundle: Bundle, x: RankerInputs) -> F32:
    """Return a bundle's score of requests of one candidate each, `[B]`."""
    names = bundle.manifest.objectives
    out = bundle.run_ranker({n: t.numpy() for n, t in x._asdict().items()}, names)
    return fuse({name: out[name][:, 0].astype(np.float32) for name in names}, bundle.manifest.weights)[0]


def run_onnx(
    bundle: Bundle,
    log: Interactions,
    rows: I64,
    on_step: Callable[[float], None] = lambda _: None,
    *,
    history_at: HistoryAt = "row",
) -> Outputs:
    """Run a bundle's exported ranker over rows of a log, in one of the two ways of `HistoryAt`."""
    law = history_at == "row" and bundle.ranker_outputs.issuperset(Law._fields)
    names = ("watch_time_s", *bundle.manifest.objectives, *(Law._fields if law else ()))
    length = bundle.manifest.sequence_length

    def answers() -> Iterable[Mapping[str, F32]]:
        batches = batches_for(log, rows, length, batch=BATCH, history_at=history_at)
        for i, x in enumerate(batches, 1):
            out = bundle.run_ranker({n: t.numpy() for n, t in x._asdict().items()}, names)
            on_step(min(1.0, i * BATCH / len(rows)))
            yield {name: out[name][:, 0].astype(np.float32) for name in names}

    return _joined(names, answers())


def _joined(names: tuple[str, ...], batches: Iterable[Mapping[str, F32]]) -> Outputs:
    parts: dict[str, list[F32]] = {name: [] for name in names}
    for batch in batches:
        for name, part in parts.items():
            part.append(batch[name])
    columns = {
        name: np.concatenate(part) if part else np.zeros(0, np.float32) for name, part in parts.items()
    }
    law = {name: columns.pop(name) for name in Law._fields if name in columns}
    # Without rows there are no axes of anchors, quantiles and states either.
    seconds = columns.pop("watch_time_s")
    return Outputs(seconds, columns, Law(**law) if law and len(seconds) else None)


def predict_seconds(
    ranker: TwoObjectiveRanker, log: Interactions, rows: I64, length: int, *, history_at: HistoryAt = "row"
) -> F32:
    """Return the `[R]` predicted watch times of rows of a log, whatever the ranker's head."""
    ranker.eval()
    device = _device(ranker)
    with torch.no_grad(), constants_on(device):
        batches = batches_for(log, rows, length, history_at=history_at)
        parts = [ranker.seconds(x.to(device))[:, 0].cpu().numpy() for x in batches]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def predict_objectives(
    ranker: MultiObjectiveRanker, log: Interactions, rows: I64, length: int, *, history_at: HistoryAt = "row"
) -> ObjectivePredictions:
    """Return every objective of rows of a log, whatever the ranker's head."""
    ranker.eval()
    seconds, probability = [], [np.zeros((0, len(ranker.likely)), np.float32)]
    device = _device(ranker)
    with torch.no_grad(), constants_on(device):
        for x in batches_for(log, rows, length, history_at=history_at):
            out = ranker.predict(x.to(device))
            probability.append(out.probability[:, 0].cpu().numpy())
            if out.seconds is not None:
                seconds.append(out.seconds[:, 0].cpu().numpy())
    return ObjectivePredictions(np.concatenate(seconds) if seconds else None, np.concatenate(probability))


def _device(ranker: Ranker) -> torch.device:
    return next(ranker.parameters()).device
