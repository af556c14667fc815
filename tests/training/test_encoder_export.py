"""Every part of the encoder goes through the exporter and answers as torch does, at every shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.runtime import Bundle
from tests.training._builders import Spread, assert_graph_answers_as_torch, export_ranker, log_of
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.labels import Scale
from training.rankers import TwoObjectiveRanker

pytestmark = pytest.mark.slow

EVERYTHING: dict[str, Any] = {"tokens": "full", "interests": "both", "gate": True}


@pytest.fixture(scope="module")
def ranker() -> TwoObjectiveRanker:
    torch.manual_seed(0)
    log = log_of([0, 0, 1, 1, 1], [1, 2, 1, 2, 3])
    config = FeedbackEncoderConfig(width=8, token=8, heads=2, hidden=8, **EVERYTHING)
    made = TwoObjectiveRanker(
        FeedbackEncoder((9, 5, 4, 4), 2, (4,), config), Spread(8), Scale().fit(log.watch_time_s)
    )
    made.head.fit_tables(log, seed=0)
    made.encoder.fit_tables(log, np.arange(5))
    with torch.no_grad():
        made.encoder.attention.null.normal_()
    return made.eval()


@pytest.fixture(scope="module")
def bundle(ranker: TwoObjectiveRanker, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_ranker(ranker, tmp_path_factory.mktemp("bundles"), weights={"watch_time": 1.0})


@pytest.mark.parametrize("steps", [0, 1, 2, 100])
@pytest.mark.parametrize("candidates", [0, 1, 5])
@pytest.mark.parametrize("users", [1, 3])
def test_everything_at_once_answers_as_torch_at_every_shape(
    bundle: Bundle, ranker: TwoObjectiveRanker, users: int, candidates: int, steps: int
) -> None:
    assert_graph_answers_as_torch(bundle, ranker, users, candidates, steps)
