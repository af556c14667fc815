"""Where a ranker's steps are computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import BadInput
from tests.conftest import run_command
from tests.training._builders import log_of
from training.device import checked_device, constants_on
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig, inputs_for
from training.labels import Scale
from training.lda import LDA, AnchorsConfig, LDAConfig
from training.rankers import INTEREST, NAMES, WATCH_TIME, MultiObjectiveRanker
from training.train.chosen_config import chosen_config
from training.train.rankers import TrainerConfig, fit_objectives

LOG = log_of([0] * 40, list(range(40)))
ROWS = np.arange(40)
LABEL = np.full(40, 0.5, np.float32)
SMALL = FeedbackEncoderConfig(width=16, token=8, heads=2, hidden=16)
HEAD = LDAConfig(alignment=0.0, anchors=AnchorsConfig(sequences=64, epochs=1))


def made_up() -> MultiObjectiveRanker:
    torch.manual_seed(0)
    encoder = FeedbackEncoder((99, 50, 4, 4), 2, (4,), SMALL)
    encoder.fit_tables(LOG, ROWS)
    head = LDA(SMALL.width, HEAD).fit_tables(LOG, seed=0)
    names = (WATCH_TIME, INTEREST, *NAMES)
    return MultiObjectiveRanker(encoder, head, Scale().fit(LOG.watch_time_s), names)


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(BadInput, match=f"cannot compute on the device '{name}' here .*; take cpu"):
        checked_device(name)


def test_a_fit_refuses_it_before_it_begins(synthetic_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run_command("fit", "smoke", "--data", synthetic_data, "--out", out, "--device", "tpu")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the device 'tpu'" in done.stderr
    assert not out.exists()


def test_the_option_is_a_field_of_the_recipe() -> None:
    assert chosen_config("smoke", device="cuda").loop.device == "cuda"
    assert chosen_config("smoke", device="cuda", assignments=["loop.device=cpu"]).loop.device == "cpu"


def test_everything_in_a_step_is_on_the_device_of_the_ranker() -> None:
    """`meta` has shapes without values, and refuses tensors of other devices as a GPU does."""
    device = torch.device("meta")
    ranker = made_up().train().to(device)
    assert isinstance(ranker.head, LDA)
    ranker.head.register_buffer("scale", torch.tensor(1.0))  # the head reads its value
    x = inputs_for(LOG, ROWS, 5).to(device)
    target = torch.zeros(40, 1, 1 + len(NAMES), device=device)
    statistics = torch.from_numpy(made_up().encoder.fit_tables(LOG, ROWS))[:, None].to(device)
    watched = torch.from_numpy(LOG.watch_time_s)[:, None].to(device)
    with constants_on(device):
        losses = ranker.losses(x, statistics, watched, target)
        torch.stack(losses.each).sum().backward()  # type: ignore[no-untyped-call]
        assert {p.grad.device for p in ranker.parameters() if p.grad is not None} == {device}
        assert ranker.appeal(x).device == device
        assert ranker.eval().predict(x).probability.device == device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_the_cpu_learns() -> None:
    errors = []
    for device in ("cpu", "cuda"):
        ranker, config = made_up(), TrainerConfig(epochs=2, batch_size=20, device=device)
        epochs = fit_objectives(ranker, LOG, ROWS, config, None, seed=0, label=LABEL, stop_rows=ROWS)
        assert {p.device.type for p in ranker.parameters()} == {"cpu"}
        errors.append(epochs[-1].losses[WATCH_TIME])
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
