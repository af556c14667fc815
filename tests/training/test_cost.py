"""One more label maker and one more head need nothing but themselves: no loop, export or service changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.manifest import Training
from models.runtime import Bundle
from models.vocabulary import Vocabulary
from tests.training._builders import Spread, log_of
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.evaluation.predict import run_torch
from training.export.bundle import export
from training.labels import PCR, LabelMaker, LabelMakers, Scale
from training.rankers import TwoObjectiveRanker
from training.train.rankers import TrainerConfig, fit_ranker


class LongView(LabelMaker):
    """A label maker as one would add it."""

    name = "long_view"

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        watched, duration = feedback_NF[:, 0], feedback_NF[:, 1]
        return (watched >= duration.clamp(max=18.0)).to(feedback_NF.dtype)


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
