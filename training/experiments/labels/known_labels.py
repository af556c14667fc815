"""Labels of the rows that were known at an origin, by every maker, as columns of one matrix."""

# Shape suffixes: N rows known at the origin, M other rows, P parts, L methods.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from torch import Tensor

from models.arrays import F32, I64
from models.errors import BadInput
from training.data import Interactions
from training.experiments.labels.methods import DURATION, SURROGATE, Method
from training.experiments.labels.surrogate import surrogate_index
from training.labels import LabelMaker, Scale, duration_s, heuristic_label_makers, labels_of


def known_labels(
    known: Interactions,
    day_N: I64,
    parts: Sequence[str],
    learned: Mapping[str, LabelMaker],
    *,
    seed: int,
    others: Interactions | None = None,
) -> tuple[F32, F32, dict[str, str]]:
    """Fit every label maker to the known rows, and label these and other rows.

    Args:
        known: N rows.
        day_N: the day of each.
        parts: whose columns are wanted.
        learned: label makers by the names of learned rows.
        seed: of the surrogate's folds.
        others: M rows; the surrogate index has none for them but 0.

    Returns:
        `[N, P]` and `[M, P]` labels, and why some parts have none but 0: the known rows do not allow them.
    """
    makers = {maker.name: maker for maker in heuristic_label_makers()} | {DURATION: _ScaledDuration()}
    others = known.take(np.zeros(0, np.int64)) if others is None else others
    label_NP, label_MP = (np.zeros((len(log), len(parts)), np.float32) for log in (known, others))
    refused: dict[str, str] = {}
    for column, part in enumerate(parts):
        maker = learned.get(part)
        try:
            if part == SURROGATE:
                label_NP[:, column] = surrogate_index(known, day_N, seed=seed)
                continue
            if maker is None and part not in makers:
                continue  # learned, and there are no windows to learn on yet
            maker = maker or makers[part].fit(known)
            label_N = labels_of(maker, known)
            if np.ptp(label_N) == 0:
                raise BadInput(f"{part} labels all {len(known)} exposures with {label_N[0]:g}.")
            label_NP[:, column], label_MP[:, column] = label_N, labels_of(maker, others)
        except BadInput as e:
            refused[part] = str(e)
    return label_NP, label_MP, refused


class _ScaledDuration(LabelMaker):
    """`scale(d)`, which rules are made of and no recommender is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale(name="duration")

    def fit(self, train: Interactions) -> Self:
        self.scale.fit(train.duration_s)
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        scaled_N: Tensor = self.scale(duration_s(feedback_NF))
        return scaled_N


def weights(methods: Sequence[Method], parts: Sequence[str], label_NP: F32) -> F32:
    """Return `[P, L]`: the labels of methods are `label_NP` times this, and so are scores linear in them."""
    deviation_P = label_NP.std(axis=0, dtype=np.float64)
    weight_PL = np.zeros((len(parts), len(methods)), np.float32)
    for column, method in enumerate(methods):
        for part, weight in method.parts.items():
            row = parts.index(part)
            scale = deviation_P[row] if method.standardised and deviation_P[row] > 0 else 1.0
            weight_PL[row, column] = weight / scale
    return weight_PL
