"""One more label maker and one more head need nothing but themselves: no loop, export or service changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training._builders import Spread, export_ranker, log_of
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.evaluation.predict import run_torch
from training.labels import LabelMaker, Scale
from training.rankers import TwoObjectiveRanker
from training.train.rankers import TrainerConfig, fit_ranker

pytestmark = pytest.mark.slow


class LongView(LabelMaker):
    """A label maker as one would add it."""

    name = "long_view"

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        watched, duration = feedback_NF[:, 0], feedback_NF[:, 1]
        return (watched >= duration.clamp(max=18.0)).to(feedback_NF.dtype)


def test_a_new_label_maker_and_a_new_head_are_fitted_exported_and_run(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    log = log_of(random.integers(0, 5, 200).tolist(), random.integers(0, 10**9, 200).tolist())
    config = FeedbackEncoderConfig(width=8, token=8, heads=2, hidden=8)
    ranker = TwoObjectiveRanker(
        FeedbackEncoder((9, 5, 4, 4), 2, (4,), config), Spread(8), Scale().fit(log.watch_time_s)
    )
    ranker.head.fit_tables(log, seed=0)
    rows, label = np.arange(200), LongView()(torch.from_numpy(log.feedback)).numpy()
    fit_ranker(ranker, log, rows, label, TrainerConfig(epochs=1, batch_size=50), seed=0)
    bundle = export_ranker(ranker, tmp_path, LongView(), weights={"watch_time": 1.0})
    assert bundle.manifest.labels == ("pcr", "long_view")
    assert (bundle.run_labeler({"feedback": log.feedback})["long_view"] == label).all()
    assert np.isfinite(run_torch(ranker, log, rows, 20).watch_time_s).all()
