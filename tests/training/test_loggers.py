"""Figures of epochs in experiment trackers."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.loggers import Logger, open_logger
from training.train.recipes import smoke


def test_tensorboard_has_the_figures_of_each_epoch(tmp_path: Path) -> None:
    with open_logger(Logger.TENSORBOARD, tmp_path / "run", smoke()) as send:
        for epoch, loss in enumerate((2.0, 1.5)):
            send("1/2 ranker", epoch, {"loss": loss})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = EventAccumulator(str(tmp_path / "run.tensorboard")).Reload()
    assert [(e.step, e.value) for e in written.Scalars("1/2 ranker/loss")] == [(0, 2.0), (1, 1.5)]


@pytest.mark.filterwarnings("default")  # of the libraries that MLflow brings
def test_mlflow_has_the_figures_of_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `trackers` is not installed")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    with open_logger(Logger.MLFLOW, tmp_path / "run", smoke()) as send:
        for epoch, loss in enumerate((2.0, 1.5)):
            send("1/2 ranker", epoch, {"loss": loss})
    run = mlflow.last_active_run()
    assert run.info.run_name == "run"
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "1/2 ranker/loss")
    assert [(m.step, m.value) for m in history] == [(0, 2.0), (1, 1.5)]


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    with open_logger(None, tmp_path / "run", smoke()) as send:
        send("1/2 ranker", 0, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
