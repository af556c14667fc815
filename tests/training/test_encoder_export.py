"""Every part of the encoder goes through the exporter and answers as torch does, at every shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.manifest import Training
from models.runtime import Bundle
from models.vocabulary import Vocabulary
from tests.training._builders import Spread, log_of
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.export.bundle import export
from training.export.synthetic_inputs import SyntheticInputs
from training.labels import PCR, LabelMakers, Scale
from training.rankers import TwoObjectiveRanker

EVERYTHING: dict[str, Any] = {"tokens": "full", "interests": "both", "gate": True}
FIELDS = {"video_id": 7, "author_id": 3, "tag": 2, "tab": 2, "profile.kind": 2}


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
    training = Training(
        recipe="test",
        seed=0,
        dataset="made up",
        source="",
        licence="",
        rows=5,
        users=2,
        watermark_ms=3,
        git_commit="",
        machine="",
    )
    vocabulary = Vocabulary({name: [str(i) for i in range(n)] for name, n in FIELDS.items()})
    folder = export(
        LabelMakers([PCR()]),
        ranker,
        vocabulary,
        tmp_path_factory.mktemp("bundles"),
        training=training,
        weights={"watch_time": 1.0},
        sequence_length=100,
        profile_numbers=("one", "two"),
        profile_categories=("kind",),
    )
    return Bundle.load(folder)


@pytest.mark.parametrize("steps", [0, 1, 2, 100])
@pytest.mark.parametrize("candidates", [0, 1, 5])
@pytest.mark.parametrize("users", [1, 3])
def test_everything_at_once_answers_as_torch_at_every_shape(
    bundle: Bundle, ranker: TwoObjectiveRanker, users: int, candidates: int, steps: int
) -> None:
    random = np.random.default_rng([users, candidates, steps])
    request = SyntheticInputs(bundle.vocabulary, 2, ("kind",), random).request(users, candidates, steps)
    got = bundle.run_ranker(request)
    with torch.no_grad():
        want = ranker(*(torch.from_numpy(a) for a in request.values()))
    for name, tensor in want._asdict().items():
        assert got[name].shape == tuple(tensor.shape)
        np.testing.assert_allclose(got[name], tensor.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.isfinite(got[name]).all()
