"""One more label maker and one more head need nothing but themselves: no loop, export or service changes."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from models.manifest import Training
from models.runtime import Bundle
from models.vocabulary import Vocabulary
from tests.training.test_interactions import log_of
from training.data import Interactions
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.evaluation.predict import run_torch
from training.export.bundle import export
from training.labels import PCR, LabelMaker, LabelMakers, Scale
from training.rankers import TwoObjectiveRanker
from training.train.rankers import TrainerConfig, fit_ranker
from training.watch_time import Prediction


class LongView(LabelMaker):
    """A label maker as somebody would add it."""

    name = "long_view"

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        watched, duration = feedback_NF[:, 0], feedback_NF[:, 1]
        return (watched >= duration.clamp(max=18.0)).to(feedback_NF.dtype)


class Spread(nn.Module):
    """A head as somebody would add it: a share of the duration, and the train ratios around it."""

    ratio: Tensor

    def __init__(self, state_dim: int) -> None:
        super().__init__()
        self.share = nn.Linear(state_dim, 1)
        self.register_buffer("ratio", torch.zeros(3))

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        ratio = np.quantile(train.watch_time_s / train.duration_s, [0.1, 0.5, 0.9]).astype(np.float32)
        self.ratio.copy_(torch.from_numpy(ratio))
        return self

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        return softplus(self.share(state_ND))[..., 0] * duration_N

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        return (self.seconds(state_ND, duration_N) - watch_time_N).abs().mean() / 30.0

    def distribution(self, state_ND: Tensor, duration_N: Tensor) -> tuple[Tensor, Tensor]:
        ratio = self.ratio.expand(*duration_N.shape, 3)
        return torch.ones_like(ratio) / 3.0, ratio

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        return Prediction(
            self.seconds(state_ND, duration_N),
            *self.distribution(state_ND, duration_N),
            self.quantiles_s(state_ND, duration_N),
        )

    def quantiles_s(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        return self.ratio * duration_N[..., None]


def test_a_new_label_maker_and_a_new_head_are_fitted_exported_and_run(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    log = log_of(random.integers(0, 5, 200).tolist(), random.integers(0, 10**9, 200).tolist())
    fields = {name: [str(i) for i in range(n)] for name, n in (("video_id", 7), ("author_id", 3), ("tag", 2))}
    vocabulary = Vocabulary({**fields, "tab": ["1", "2"], "profile.kind": ["a", "b"]})
    config = FeedbackEncoderConfig(width=8, token=8, heads=2, hidden=8)
    ranker = TwoObjectiveRanker(
        FeedbackEncoder((9, 5, 4, 4), 2, (4,), config), Spread(8), Scale().fit(log.watch_time_s)
    )
    ranker.head.fit_tables(log, seed=0)
    rows, label = np.arange(200), LongView()(torch.from_numpy(log.feedback)).numpy()
    fit_ranker(ranker, log, rows, label, TrainerConfig(epochs=1, batch_size=50), seed=0)
    folder = export(
        LabelMakers([PCR(), LongView()]),
        ranker,
        vocabulary,
        tmp_path,
        training=Training(
            recipe="test",
            seed=0,
            dataset="made up",
            source="",
            licence="",
            rows=200,
            users=5,
            watermark_ms=10**9,
            git_commit="",
            machine="",
        ),
        weights={"watch_time": 1.0},
        sequence_length=20,
        profile_numbers=("one", "two"),
        profile_categories=("kind",),
    )
    bundle = Bundle.load(folder)
    assert bundle.manifest.labels == ("pcr", "long_view")
    assert (bundle.run_labeler({"feedback": log.feedback})["long_view"] == label).all()
    assert np.isfinite(run_torch(ranker, log, rows, 20).watch_time_s).all()
