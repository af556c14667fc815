"""Experiment trackers that the figures of a fit's epochs are sent to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import BadInput

if TYPE_CHECKING:
    from training.train.run_config import RunConfig

Send = Callable[[str, int, Mapping[str, float]], None]
"""Stage, epoch and figures by name."""


class Logger(StrEnum):
    """A tracker by name; each is installed apart."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"


@contextmanager
def open_logger(kind: Logger | None, out: Path, config: RunConfig) -> Iterator[Send]:
    """Yield a function that sends figures.

    Args:
        kind: `tensorboard` writes into the folder `<out>.tensorboard`; `mlflow` begins a run named as `out`
            on the server of MLFLOW_TRACKING_URI. `None` sends nothing.
        out: the run's folder.
        config: the run's, which is sent as parameters.

    Raises:
        BadInput: the tracker is not installed.
    """
    try:
        if kind is None:
            yield lambda stage, epoch, figures: None
        elif kind == Logger.TENSORBOARD:
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(out.with_name(f"{out.name}.tensorboard")) as writer:
                writer.add_text("config", f"```json\n{config.model_dump_json(indent=1)}\n```")

                def write(stage: str, epoch: int, figures: Mapping[str, float]) -> None:
                    for name, value in figures.items():
                        writer.add_scalar(f"{stage}/{name}", value, epoch)
                    writer.flush()

                yield write
        else:
            import mlflow

            with mlflow.start_run(run_name=out.name):
                mlflow.log_dict(config.model_dump(mode="json"), "config.json")
                yield lambda stage, epoch, figures: mlflow.log_metrics(
                    {f"{stage}/{name}": value for name, value in figures.items()}, step=epoch
                )
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] != kind:
            raise
        raise BadInput(f"{kind} is not installed: pip install {kind}, or leave --log out.") from e
