"""Fit a language model on windows of long views, with or without the counterfactual term."""

# Shape suffixes: B rows, M videos of a row, T tokens of a video, N targets, Z tokens of the vocabulary.

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from models.arrays import I64
from models.errors import BadInput
from models.vocabulary import PADDING
from training.config import Config
from training.language._long_views import Windows, token_rows
from training.language._loss import counterfactual_loss, token_weights, weighted_cross_entropy
from training.language._pretrained import PretrainedTransformer, load_smollm2
from training.language._semantic_ids import START, SemanticIds
from training.language._transformer import CausalTransformer, LanguageModel, Prompt, TransformerConfig
from training.train.trainer import Evaluation, StepResult, batches_by_length, train


class LanguageConfig(Config):
    """Hyperparameters of `fit_language`."""

    transformer: TransformerConfig = TransformerConfig()
    adapter_rank: PositiveInt | None = None
    """Of low-rank adapters to SmolLM2-135M, which is then fitted in place of `transformer`."""
    effect_weight: NonNegativeFloat = 0.1
    """λ; 0 leaves the counterfactual term out."""
    last_weight: float = Field(default=0.25, ge=0, le=1)
    """β, the weight of a target's last token; 1 weights all alike."""
    actions: bool = True
    """Whether prompts say what the user did with each video."""
    length: PositiveInt = 20
    """Videos of a history."""
    epochs: PositiveInt = 3
    batch: PositiveInt = 64
    """Windows of a step."""
    learning_rate: PositiveFloat = 3e-3
    weight_decay: NonNegativeFloat = 0.01
    average: float | None = Field(default=0.99, ge=0, lt=1)
    """Of the running mean of the weights, which is what is kept."""


class Targets(NamedTuple):
    """Logits of every target of a batch with the history, and its tokens."""

    logit: Tensor
    """`[N, T, Z]`"""
    token: Tensor
    """`[N, T]`"""


@dataclass(frozen=True)
class FittedLanguage:
    """A fitted language model."""

    model: LanguageModel
    ids: SemanticIds
    config: LanguageConfig
    losses: list[float]
    """By epoch."""
    stop_losses: list[float]
    """By epoch, plain cross entropy of the targets of the early-stop windows."""
    best_epoch: int
    step_s: float
    """Median processor time of a step."""

    def read(self, windows: Windows) -> Prompt:
        """Read histories."""
        with torch.no_grad():
            return self.model.read(
                torch.from_numpy(token_rows(windows, self.ids, actions=self.config.actions))
            )


def targets_with_history(
    model: LanguageModel, windows: Windows, config: LanguageConfig, ids: SemanticIds
) -> Targets:
    """Read windows once, and return their targets.

    A row has a prompt for every one of its videos: attention is causal, and so the state before a video is
    that of the prompt that ends there.
    """
    token_BL = torch.from_numpy(token_rows(windows, ids, actions=config.actions))
    state_BLD = model(token_BL)
    tokens = ids.token.shape[1]
    width = tokens + config.actions
    # The state that predicts token t of video m is that of the position before: m · width + t.
    state_BMTD = state_BLD[:, :-1].unflatten(1, (-1, width))[:, :, :tokens]
    is_target = torch.from_numpy(windows.is_target)
    target_NT = torch.from_numpy(ids.token[windows.video])[is_target]
    return Targets(model.logits(state_BMTD[is_target]), target_NT)


def logits_without_history(model: LanguageModel, target_NT: Tensor) -> Tensor:
    """Return z⁰ `[N, T, Z]`: the same targets after the prompt without a history.

    Each distinct target is read once; targets share its gradient.
    """
    distinct_UT, index_N = np.unique(target_NT.numpy(), axis=0, return_inverse=True)
    start_U1 = np.full((len(distinct_UT), 1), START)
    state_UTD = model(torch.from_numpy(np.concatenate([start_U1, distinct_UT[:, :-1]], axis=1)))
    return model.logits(state_UTD)[torch.from_numpy(index_N)]


def fit_language(
    windows: Windows,
    ids: SemanticIds,
    config: LanguageConfig,
    *,
    stop: Windows | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> FittedLanguage:
    """Fit by the counterfactual loss, or by plain cross entropy where λ is 0.

    Args:
        windows: of `training_windows`.
        ids: tokens of the videos.
        config: hyperparameters.
        stop: the last video of each is a target; the epoch with the lowest cross entropy of them is kept.
        seed: of weights, dropout and the order of the windows.
        on_progress: called with the finished share.

    Raises:
        BadInput: no user has two long views, or SmolLM2-135M is wanted and not installed.
    """
    if not len(windows.video):
        raise BadInput("no user has two long views to learn from; use a longer log.")
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = _new_model(ids.tokens, config)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=config.weight_decay)
    weight_T = token_weights(ids.token.shape[1], config.last_weight)
    length_B = (windows.video != PADDING).sum(axis=1)
    seconds: list[float] = []

    def step(rows: I64) -> StepResult:
        began = time.process_time()
        optimiser.zero_grad()
        found = targets_with_history(model, windows.take(rows), config, ids)
        if config.effect_weight:
            without = logits_without_history(model, found.token)
            loss = counterfactual_loss(found.logit, without, found.token, weight_T, config.effect_weight)
        else:
            loss = weighted_cross_entropy(found.logit, found.token, weight_T)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seconds.append(time.process_time() - began)
        return StepResult((float(loss.detach()),), weight=float(len(found.token)))

    trained = train(
        model,
        lambda: batches_by_length(length_B, config.batch, random),
        step,
        None if stop is None else lambda evaluated: Evaluation(_last_loss(evaluated, stop, config, ids)),
        epochs=config.epochs,
        rates=f"learning_rate = {config.learning_rate:g}",
        average=config.average,
        on_step=on_progress,
    )
    return FittedLanguage(
        model,
        ids,
        config,
        [epoch.losses[0] for epoch in trained.epochs],
        [epoch.error for epoch in trained.epochs if epoch.error is not None],
        trained.best_epoch,
        float(np.median(seconds)),
    )


def _new_model(tokens: int, config: LanguageConfig) -> LanguageModel:
    if config.adapter_rank is None:
        return CausalTransformer(tokens, config.transformer)
    return PretrainedTransformer(tokens, load_smollm2(), config.adapter_rank)


@torch.no_grad()
def _last_loss(model: LanguageModel, stop: Windows, config: LanguageConfig, ids: SemanticIds) -> float:
    """Return the mean cross entropy of the targets, summed over their tokens."""
    model.eval()
    total, count = 0.0, 0
    for start in range(0, len(stop.video), 512):
        part = stop.take(np.arange(start, min(start + 512, len(stop.video))))
        found = targets_with_history(model, part, config, ids)
        logit, target = found.logit.flatten(0, 1), found.token
        total += float(torch.nn.functional.cross_entropy(logit, target.flatten(), reduction="sum"))
        count += len(target)
    return total / count
