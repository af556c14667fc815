"""The loss of rows as a function of a ranker's parameters, with its gradient and its curvature."""

# Shape suffixes: R rows of a batch, S statistics, K anchors, T objectives with a logit, X = K + 1 + T, P
# parameters.

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.functional import binary_cross_entropy_with_logits

from models.arrays import F32, I64
from training.encoders import RankerInputs, inputs_for
from training.forgetting import LinearMap, gauss_newton_product
from training.labels import labels_of
from training.lda import LDA
from training.rankers import WATCH_TIME, MultiObjectiveRanker
from training.train.fit import Windows
from training.train.fitted import Fitted
from training.train.rankers import entropy_weights, targets
from training.train.run_config import RunConfig

_BATCH = 1024

State = tuple[Tensor, Tensor, Tensor]
"""What `FeedbackEncoder.rows` returns."""


class Batch(NamedTuple):
    """Rows with everything that their loss reads."""

    x: RankerInputs
    statistics: Tensor
    """`[R, 1, S]`"""
    watch_time: Tensor
    """`[R]` seconds."""
    target: Tensor
    """`[R, T]`"""


class FitRows:
    """The train rows of a fit, and its ranker as it is when it has been fitted: no dropout.

    Args:
        fitted: the fit.
        windows: what it was fitted on.
        config: the run's.
    """

    def __init__(self, fitted: Fitted, windows: Windows, config: RunConfig) -> None:
        log, known, objectives = windows.log, windows.known, config.objectives
        assert objectives is not None
        ranker = copy.deepcopy(fitted.ranker).eval()
        assert isinstance(ranker, MultiObjectiveRanker)
        cast(LDA, ranker.head).train()  # its keys are functions of parameters then; it has no dropout
        self.ranker, self.log, self.known = ranker, log, known
        self.length, self.first = config.loop.sequence_length, log.first_row()
        statistics = copy.deepcopy(ranker.encoder.statistics)
        self.statistics: F32 = statistics.fit(log, known, windows.dataset.censored(windows.vocabulary))
        self.target = targets(ranker, log, known, labels_of(fitted.labelcraft, log.take(known)))
        rate_T = torch.from_numpy(self.target).mean(0)
        self.weights = entropy_weights(ranker.objectives, rate_T, objectives.weight)

    def batches(self, index: I64) -> list[Batch]:
        """Return some of the train rows, by their positions in `known`."""
        return [self.batch(index[start : start + _BATCH]) for start in range(0, len(index), _BATCH)]

    def batch(self, index: I64) -> Batch:
        """Return the same as one batch."""
        rows = self.known[index]
        return Batch(
            inputs_for(self.log, rows, self.length, self.first),
            torch.from_numpy(self.statistics[index])[:, None],
            torch.from_numpy(self.log.watch_time_s[rows]),
            torch.from_numpy(self.target[index]),
        )


class Parameters:
    """Some parameters of a ranker as one vector.

    Args:
        ranker: whose.
        names: which.
    """

    def __init__(self, ranker: nn.Module, names: Sequence[str]) -> None:
        self.names = names
        each = [ranker.get_parameter(name).detach() for name in names]
        self.shapes = [parameter.shape for parameter in each]
        self.vector_P = torch.cat([parameter.flatten() for parameter in each])

    def split(self, vector_P: Tensor) -> dict[str, Tensor]:
        """Return the parameters of a vector by name."""
        parts = torch.split(vector_P, [shape.numel() for shape in self.shapes])
        return {n: p.reshape(s) for n, p, s in zip(self.names, parts, self.shapes, strict=True)}


class RowLoss:
    """The loss of a batch, summed over its rows, as a function of parameters.

    The transport's pseudo-labels stay those of the fitted parameters: fitting takes no gradient of them.

    Args:
        fit: whose rows they are.
        batch: its rows.
        parameters: those that vary; the others stay as they are.
        rows_by_name: where the rows of smaller tables lie in those of the fit, whose other rows stay.
    """

    def __init__(
        self, fit: FitRows, batch: Batch, parameters: Parameters, rows_by_name: Mapping[str, Tensor]
    ) -> None:
        self.ranker, self.weights, self.batch = fit.ranker, fit.weights, batch
        self.head, self.parameters, self.rows_by_name = cast(LDA, fit.ranker.head), parameters, rows_by_name
        self.is_encoder_fixed = not any(name.startswith("encoder.") for name in parameters.names)
        with torch.no_grad():
            self.state = self.ranker.encoder.rows(batch.x, batch.statistics)
            state_RD, duration_R1, _ = self.state
            attended = self.head.attend(state_RD, duration_R1[:, 0])
            self.label_RK = self.head.pseudo_labels(attended, duration_R1[:, 0], batch.watch_time)
        self.anchors = self.label_RK.shape[1]

    def __call__(self, vector_P: Tensor) -> Tensor:
        """Return the loss."""
        return self.of_outputs(self.outputs(vector_P))

    def outputs(self, vector_P: Tensor) -> Tensor:
        """Return what the loss reads, `[R, X]`: log weights of the anchors, seconds, logits."""
        given = {
            f"ranker.{name}": self._in_tables(name, value)
            for name, value in self.parameters.split(vector_P).items()
        }
        if self.is_encoder_fixed:
            found: Tensor = functional_call(_Part(self.ranker, _predict), given, self.state)
        else:
            inputs = (self.batch.x, self.batch.statistics)
            found = functional_call(_Part(self.ranker, _encode_and_predict), given, inputs)
        return found

    def of_outputs(self, outputs_RX: Tensor) -> Tensor:
        """Return the loss of what was predicted."""
        rows, duration_R = len(outputs_RX), self.state[1][:, 0]
        log_weight_RK, seconds_R1, logit_RT = torch.split(
            outputs_RX, [self.anchors, 1, outputs_RX.shape[1] - self.anchors - 1], dim=1
        )
        logit_R = dict(zip(self.ranker.likely, logit_RT.unbind(1), strict=True))
        target_R = dict(zip(self.ranker.likely, self.batch.target.unbind(1), strict=True))
        # Log weights are normalised already; this lets the curvature see that they are.
        watch_time = self.head.loss_of(
            log_weight_RK.log_softmax(-1),
            seconds_R1[:, 0],
            self.label_RK,
            duration_R,
            self.batch.watch_time,
        )
        each = [
            watch_time
            if name == WATCH_TIME
            else binary_cross_entropy_with_logits(logit_R[name], target_R[name])
            for name in self.ranker.objectives
        ]
        return rows * (torch.stack(each) @ self.weights)

    def _in_tables(self, name: str, value: Tensor) -> Tensor:
        rows = self.rows_by_name.get(name)
        return value if rows is None else self.ranker.get_parameter(name).detach().index_copy(0, rows, value)


class _Part(nn.Module):
    """A function of a ranker as a module, for `functional_call`."""

    def __init__(self, ranker: MultiObjectiveRanker, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.ranker, self.run = ranker, run

    def forward(self, *args: Any) -> Tensor:
        return self.run(self.ranker, *args)


def _predict(
    ranker: MultiObjectiveRanker, state_RD: Tensor, duration_R1: Tensor, dislike_R3: Tensor
) -> Tensor:
    head, duration_R = cast(LDA, ranker.head), duration_R1[:, 0]
    attended = head.attend(state_RD, duration_R)
    seconds_R = head.point_s(attended, state_RD, duration_R)
    return torch.cat([attended.log_weight, seconds_R[:, None], ranker.logits(state_RD, dislike_R3)], dim=1)


def _encode_and_predict(ranker: MultiObjectiveRanker, x: RankerInputs, statistics_R1S: Tensor) -> Tensor:
    return _predict(ranker, *ranker.encoder.rows(x, statistics_R1S))


def total_gradient(losses: Iterable[RowLoss], vector_P: Tensor) -> Tensor:
    """Return the gradient of the sum of losses."""
    return sum((grad(loss)(vector_P) for loss in losses), torch.zeros_like(vector_P))


def gauss_newton(losses: Sequence[RowLoss], vector_P: Tensor, index: Tensor, scale: float) -> LinearMap:
    """Return the Gauss-Newton map of a sum of losses, in some of the parameters.

    Args:
        losses: of batches.
        vector_P: where.
        index: which parameters.
        scale: factor of the sum.
    """

    def inside(loss: RowLoss, selected: Tensor) -> Tensor:
        return loss.outputs(vector_P.index_copy(0, index, selected))

    maps = [gauss_newton_product(partial(inside, loss), loss.of_outputs, vector_P[index]) for loss in losses]
    return lambda v: scale * sum((product(v) for product in maps), torch.zeros_like(v))
