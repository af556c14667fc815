"""LabelCraft's labelling function g_φ."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from training.data import Interactions
from training.labelcraft._config import LabelCraftConfig
from training.labels import LabelMaker, Scale, duration_s, explicit, watch_time_s

_RELEVEL_ROUNDS = 3


class LabelCraft(LabelMaker):
    """`y = σ(MLP([scale(w), scale(d), e]))`: a label that was learned, not chosen.

    `fit` reads the scales off train; the weights φ are learned by `fit_labelcraft`, which asks which labels
    would have made the recommender it trains serve the platform's objectives better.

    Source: Bai et al., "LabelCraft", WSDM 2024; sizes of the released code. Deviations: there the inputs
    are raw seconds, which saturate the sigmoid, and no layer has a bias, which pins g(0, 0, 0) to 0.5. Here
    they are scaled as in the objectives, and there are biases; `inputs` and `bias` switch back.

    Args:
        config: `hidden`, `inputs`, `bias`, `without_input` and `scaling` are read; the rest belongs to
            `fit_labelcraft`.
    """

    name = "labelcraft"
    description = "labels learned on the platform's objectives"

    def __init__(self, config: LabelCraftConfig | None = None) -> None:
        super().__init__()
        config = config or LabelCraftConfig()
        hidden, bias = config.hidden, config.bias
        self.bias = bias
        self.inputs = config.inputs
        self.without_input = config.without_input
        self.watch_scale = Scale(name="watch time", linear=not config.scaling)
        self.duration_scale = Scale(name="duration", linear=not config.scaling)
        self.mlp = nn.Sequential(
            nn.Linear(3, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, 1, bias=bias),
        )

    def fit(self, train: Interactions) -> Self:
        """Fit the scales; the weights are learned by `fit_labelcraft`.

        Raises:
            BadInput: if nine rows in ten have no watch time.
        """
        self.watch_scale.fit(train.watch_time_s)
        self.duration_scale.fit(train.duration_s)
        return self

    @torch.no_grad()
    def relevel(self, feedback_NF: Tensor, mean: float) -> Tensor:
        """Move the output's bias until these rows' mean label is `mean`; returns their labels `[N]`.

        Newton on one number, a few rounds; without biases it changes nothing.
        """
        label_N: Tensor = self(feedback_NF)
        if not self.bias:
            return label_N
        for _ in range(_RELEVEL_ROUNDS):
            slope = float((label_N * (1 - label_N)).mean())
            shift = (mean - float(label_N.mean())) / max(slope, 1e-3)
            self.get_parameter("mlp.4.bias").add_(max(-1.0, min(1.0, shift)))
            label_N = self(feedback_NF)
        return label_N

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        inputs = {
            "watch_time": self._read(watch_time_s(feedback_NF), self.watch_scale),
            "duration": self._read(duration_s(feedback_NF), self.duration_scale),
            "explicit": explicit(feedback_NF),
        }
        if self.without_input is not None:
            inputs[self.without_input] = torch.zeros_like(inputs["explicit"])
        label_N1: Tensor = self.mlp(torch.stack(list(inputs.values()), -1))
        return torch.sigmoid(label_N1[..., 0])

    def _read(self, seconds_N: Tensor, scale: Scale) -> Tensor:
        if self.inputs == "raw":
            return seconds_N
        if self.inputs == "log":
            return (torch.log1p(seconds_N) / torch.log1p(scale.maximum)).clamp(max=1.0)
        scaled_N: Tensor = scale(seconds_N)
        return scaled_N
