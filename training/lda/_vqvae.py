"""A VQ-VAE per group, all groups in one batched network."""

# Shape suffixes: G groups, L sequences of a group, S steps, C code dimensions, K codes.

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.lda._codebook import k_means, moved_codes, nearest_codes, random_codes


class Quantised(NamedTuple):
    """What one pass gives."""

    decoded: Tensor
    """`[G, L, S]` reconstruction; its gradient reaches the encoder as if there were no quantiser."""
    code: Tensor
    """`[G, L]` index of the nearest code."""
    encoded: Tensor
    """`[G, L, C]` z_e, before the quantiser."""
    quantised: Tensor
    """`[G, L, C]` the nearest code itself."""


class VQVAE(nn.Module):
    """G independent vector-quantised auto-encoders for sequences of S numbers.

        z_e = E(s)      z = argmin_k ‖z_e - a_k‖      L = ‖s - Dec(z)‖² + ‖sg[z_e] - z‖² + β ‖z_e - sg[z]‖²

    E is an MLP S-2S-C with ReLU, Dec its mirror, both `[G, in, out]` weights in one `baddbmm`, so that
    ten groups cost one. Every group starts from the same weights: the groups' code spaces then stay
    comparable, which is what lets LDA map all of them by one φ. The
    codebook term is stepped on by `move_codes`, everything else by the optimiser.

    Args:
        groups: G.
        steps: S.
        codes: K.
        code_dim: C.
        commitment: β.
        generator: of the initial weights.

    Source: van den Oord et al., "Neural Discrete Representation Learning", NIPS 2017; one per duration
    group as in Xu et al., LDA.
    """

    def __init__(
        self,
        groups: int,
        steps: int,
        codes: int,
        code_dim: int,
        *,
        commitment: float = 0.25,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.commitment = commitment
        sizes = (steps, 2 * steps, code_dim, 2 * steps, steps)
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            weight = torch.randn(1, fan_in, fan_out, generator=generator) * (2 / fan_in) ** 0.5
            self.weights.append(nn.Parameter(weight.repeat(groups, 1, 1)))
            self.biases.append(nn.Parameter(torch.zeros(groups, 1, fan_out)))
        code = torch.randn(1, codes, code_dim, generator=generator)
        self.codebook = nn.Parameter(code.repeat(groups, 1, 1))

    def encode(self, sequence_GLS: Tensor) -> Tensor:
        """`[G, L, S]` -> `[G, L, C]`."""
        return self._mlp(sequence_GLS, 0)

    def decode(self, code_GLC: Tensor) -> Tensor:
        """`[G, L, C]` -> `[G, L, S]`."""
        return self._mlp(code_GLC, 2)

    def _mlp(self, x: Tensor, layer: int) -> Tensor:
        hidden = torch.baddbmm(self.biases[layer], x, self.weights[layer]).relu()
        return torch.baddbmm(self.biases[layer + 1], hidden, self.weights[layer + 1])

    def nearest(self, encoded_GLC: Tensor) -> Tensor:
        """`[G, L]` index of each vector's nearest code."""
        return nearest_codes(encoded_GLC.detach(), self.codebook.detach())

    def forward(self, sequence_GLS: Tensor) -> Quantised:
        """Encode, quantise and decode `[G, L, S]`, straight through."""
        encoded = self.encode(sequence_GLS)
        code = self.nearest(encoded)
        index = code[..., None].expand_as(encoded)
        quantised = self.codebook.gather(1, index)
        decoded = self.decode(encoded + (quantised - encoded).detach())
        return Quantised(decoded, code, encoded, quantised)

    def loss(self, sequence_GLS: Tensor) -> tuple[Tensor, Quantised]:
        """Mean over steps (reconstruction) and code dimensions (codebook, commitment), and the pass."""
        out = self(sequence_GLS)
        reconstruction = (sequence_GLS - out.decoded).square().mean()
        codebook = (out.encoded.detach() - out.quantised).square().mean()
        commitment = (out.encoded - out.quantised.detach()).square().mean()
        return reconstruction + codebook + self.commitment * commitment, out

    @torch.no_grad()
    def initialise_codes(self, sequence_GLS: Tensor, *, rounds: int, generator: torch.Generator) -> None:
        """Put the codes where the encodings are: k-means from random encodings."""
        codes = self.codebook.shape[1]
        self.codebook.copy_(k_means(self.encode(sequence_GLS), codes, rounds=rounds, generator=generator))

    @torch.no_grad()
    def move_codes(self, encoded_GLC: Tensor, code_GL: Tensor, *, rate: float) -> None:
        """Step on the codebook term: each code moves by `rate` of the way to the mean of its encodings.

        That is the term's gradient step, with a length of its own for each code (1 is Lloyd's, less is the
        usual moving average). Adam's steps have the same length however close the encodings lie; where a
        mode is narrow it would throw the codes out of it, and leave one.
        """
        self.codebook.copy_(moved_codes(self.codebook, encoded_GLC, code_GL, rate=rate))

    @torch.no_grad()
    def restart_dead_codes(self, count_GK: Tensor, sequence_GLS: Tensor, generator: torch.Generator) -> int:
        """Move the codes with less than 0.3 of an even share of `count_GK` onto random encodings.

        Returns:
            How many were moved.
        """
        dead_GK = count_GK < 0.3 * count_GK.mean(-1, keepdim=True)
        fresh = random_codes(self.encode(sequence_GLS), dead_GK.shape[1], generator)
        self.codebook.copy_(torch.where(dead_GK[..., None], fresh, self.codebook))
        return int(dead_GK.sum())
