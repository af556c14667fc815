"""Anchors: the modes of each group's watch-ratio distribution, learned once and then frozen."""

# Shape suffixes: G groups, K anchors, C code dimensions, L sequences of a group, S steps.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from models.arrays import F32
from training.config import Config
from training.lda._sampling import Sampling, sample_sequences
from training.lda._vqvae import VQVAE


class AnchorsConfig(Config):
    """Hyperparameters of `fit_anchors`. Ours where no source is named."""

    anchors: PositiveInt = 32
    """K, codes per group."""

    code_dim: PositiveInt = 32
    """C, length of an anchor vector."""

    steps: PositiveInt = 64
    """S, values in a sequence."""

    sequences: PositiveInt = 4096
    """L, sequences drawn per group."""

    sampling: Sampling = "local"
    """`local` rank windows, or the literal `iid`, whose codes all decode to the same distribution."""

    window: PositiveFloat = 0.02
    """Half the width of a local window, as a share of the ranks."""

    commitment: NonNegativeFloat = 0.25
    """β of the loss."""

    epochs: PositiveInt = 50
    """Passes over the sequences."""

    batch: PositiveInt = 512
    """Sequences of each group in one step."""

    learning_rate: PositiveFloat = 1e-3
    """Adam."""

    code_rate: float = Field(default=0.1, gt=0, le=1)
    """How far a code moves to the mean of its encodings in one step."""

    max_ratio: float = Field(default=3.0, gt=0)
    """Watch ratios are clipped at this, or at the group's 99.5th percentile when that is lower."""


@dataclass(frozen=True)
class Anchors:
    """K anchors of each of G groups, ascending by the mean ratio they decode to. Nothing here is trained
    any further."""

    code: Tensor
    """`[G, K, C]` a_k."""
    ratio: Tensor
    """`[G, K, S]` the watch ratios each anchor decodes to, ascending, ≥ 0."""
    share: Tensor
    """`[G, K]` share of the group's sequences assigned to the anchor."""
    deviation: Tensor
    """`[G]` standard deviation of the group's (clipped) watch ratios."""
    loss: float
    """Of the last epoch."""

    @property
    def mean(self) -> Tensor:
        """`[G, K]` mean watch ratio of each anchor, ascending."""
        return self.ratio.mean(-1)

    @property
    def perplexity(self) -> Tensor:
        """`[G]` exp of the entropy of the codes' use, 1 … K. A high value alone proves little, see
        `spread`."""
        entropy: Tensor = torch.special.entr(self.share).sum(-1)
        return entropy.exp()

    @property
    def spread(self) -> Tensor:
        """`[G]` deviation of the anchor means, weighted by use, over that of the ratios themselves.

        Near 1 the anchors cover the distribution; near 0 they all decode to the same one, however high
        the perplexity.
        """
        centre_G1 = (self.share * self.mean).sum(-1, keepdim=True)
        variance_G = (self.share * (self.mean - centre_G1).square()).sum(-1)
        return variance_G.sqrt() / self.deviation.clamp(min=1e-12)


def fit_anchors(ratios: Sequence[F32], config: AnchorsConfig, *, seed: int) -> Anchors:
    """Learn each group's anchors by a VQ-VAE on sequences of its watch ratios.

    The network sees `log(1 + r / mean ratio of the group)`, brought to mean 0 and deviation 1: a squared
    error on the ratios themselves would spend most codes on the few replays and leave the skips, where
    half of the exposures are, one or two. What comes out is in watch ratios again.

    Args:
        ratios: for each of the G groups its watch ratios, ≥ 0, at least one.
        config: hyperparameters.
        seed: of everything random.

    Returns:
        Frozen anchors.

    Raises:
        ValueError: if a group has no ratio.

    Source: Xu et al., "Leveraging Label Distributions as Anchors to Enhance Video Recommendation" (LDA),
    stage 1. Ours: the sequences (`sample_sequences`), the logarithm, k-means start and restart of dead codes.
    """
    clipped = [_clip(r, config) for r in ratios]
    deviation_G = torch.tensor([float(r.std()) for r in clipped])
    drawn = [
        sample_sequences(
            r, config.sequences, config.steps, sampling=config.sampling, window=config.window, seed=seed + g
        )
        for g, r in enumerate(clipped)
    ]
    sequence_GLS = torch.from_numpy(np.stack(drawn))
    unit_G11 = sequence_GLS.mean((1, 2), keepdim=True).clamp(min=1e-6)
    logs_GLS = (sequence_GLS / unit_G11).log1p()
    centre_G11 = logs_GLS.mean((1, 2), keepdim=True)
    scale_G11 = logs_GLS.std((1, 2), keepdim=True).clamp(min=1e-6)
    scaled_GLS = (logs_GLS - centre_G11) / scale_G11

    generator = torch.Generator().manual_seed(seed)
    net = VQVAE(
        len(ratios),
        config.steps,
        config.anchors,
        config.code_dim,
        commitment=config.commitment,
        generator=generator,
    )
    last = _train(net, scaled_GLS, config, generator)

    with torch.no_grad():
        code_GL = net.nearest(net.encode(scaled_GLS))
        count_GK = _counts(code_GL, config.anchors)
        code_GKC = net.codebook.detach()
        decoded = (net.decode(code_GKC) * scale_G11 + centre_G11).expm1() * unit_G11
        # A decoder's steps are not quite in order, and may dip below 0 at a skip.
        ratio_GKS = decoded.clamp(min=0).sort(-1).values
    anchors = Anchors(code_GKC, ratio_GKS, count_GK / count_GK.sum(-1, keepdim=True), deviation_G, last)
    return _ascending(anchors)


def random_anchors(ratios: Sequence[F32], config: AnchorsConfig, *, seed: int) -> Anchors:
    """What learned anchors must beat: normal vectors that stand for uniformly drawn ratios.

    Args and errors as `fit_anchors`. Every anchor of a group decodes to one ratio between 0 and the group's
    greatest clipped one; shares are even, the loss is NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (len(ratios), config.anchors)
    clipped = [_clip(r, config) for r in ratios]
    high_G = torch.tensor([float(r.max()) for r in clipped])
    deviation_G = torch.tensor([float(r.std()) for r in clipped])
    mean_GK = (torch.rand(shape, generator=generator) * high_G[:, None]).sort(-1).values
    return Anchors(
        code=torch.randn(*shape, config.code_dim, generator=generator),
        ratio=mean_GK[..., None].repeat(1, 1, config.steps),
        share=torch.full(shape, 1 / config.anchors),
        deviation=deviation_G,
        loss=math.nan,
    )


def _clip(ratio: F32, config: AnchorsConfig) -> F32:
    if not len(ratio):
        raise ValueError("a group has no watch ratio to learn anchors from.")
    out: F32 = np.minimum(ratio, min(config.max_ratio, float(np.quantile(ratio, 0.995)))).astype(np.float32)
    return out


def _train(net: VQVAE, sequence_GLS: Tensor, config: AnchorsConfig, generator: torch.Generator) -> float:
    """Adam over shuffled batches; codes hardly used in an epoch are restarted, but not towards the end."""
    net.initialise_codes(sequence_GLS, rounds=10, generator=generator)
    adam = torch.optim.Adam([*net.weights, *net.biases], lr=config.learning_rate)
    count = sequence_GLS.shape[1]
    mean = 0.0
    for epoch in range(config.epochs):
        used_GK = torch.zeros(net.codebook.shape[:2])
        total = 0.0
        for rows in torch.split(torch.randperm(count, generator=generator), config.batch):
            batch_GLS = sequence_GLS[:, rows]
            loss, out = net.loss(batch_GLS)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            net.move_codes(out.encoded.detach(), out.code, rate=config.code_rate)
            used_GK += _counts(out.code, config.anchors)
            total += loss.item() * len(rows)
        mean = total / count
        if epoch < 0.8 * config.epochs:
            net.restart_dead_codes(used_GK, batch_GLS, generator)
    return mean


def _counts(code_GL: Tensor, codes: int) -> Tensor:
    return torch.nn.functional.one_hot(code_GL, codes).sum(1).float()


def _ascending(anchors: Anchors) -> Anchors:
    order_GK = anchors.mean.argsort(-1)
    take = order_GK[..., None]
    return replace(
        anchors,
        code=anchors.code.gather(1, take.expand_as(anchors.code)),
        ratio=anchors.ratio.gather(1, take.expand_as(anchors.ratio)),
        share=anchors.share.gather(1, order_GK),
    )
