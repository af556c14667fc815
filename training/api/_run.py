"""A run: a fitted recipe, its figures, and the bundle that is exported from it."""

from __future__ import annotations

import html
import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from models.manifest import Evaluation
from training.api._log import Log, read_log
from training.config import override
from training.data import LikesHates
from training.evaluation.label_surface import label_surface
from training.evaluation.report import evaluate_run
from training.export.promotion import promote_version
from training.export.run import export_run
from training.progress import progress
from training.train import run_folder
from training.train.chosen_config import recipe_config
from training.verdict import verdict


@dataclass(frozen=True)
class Picture:
    """A figure of Matplotlib that notebooks show."""

    figure: Figure

    def save(self, path: str | Path) -> None:
        """Write it to a file; the suffix says in which format."""
        self.figure.savefig(path)

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.figure.savefig(png, format="png")
        return png.getvalue()


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder, as `fit` wrote it."""

    folder: Path
    log: Log | None = None
    """What it was fitted on, where that is at hand."""
    _temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, compare=False)
    """Keeps a folder that no caller named for as long as the run is used."""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        content: dict[str, Any] = json.loads((self.folder / run_folder.METRICS).read_text())
        return content

    @property
    def evaluation(self) -> Evaluation:
        """The figures of the evaluation fit on the test days."""
        return Evaluation.model_validate(self.metrics["evaluation"])

    @property
    def verdict(self) -> str:
        """What the ranker is better and worse than on the test days."""
        return verdict(self.evaluation.comparisons)

    def evaluate(
        self,
        log: Any = None,
        start: str | None = None,
        end: str | None = None,
        tab: str | None = None,
        *,
        allow_seen: bool = False,
    ) -> dict[str, Any]:
        """Evaluate the evaluation fit on days that it has not seen, as `python -m training evaluate --run`.

        Args:
            log: a `Log` or what `read_log` takes; by default the one that the run was fitted on.
            start, end: first and last day, YYYY-MM-DD; by default those after the fit.
            tab: evaluate this tab alone.
            allow_seen: evaluate days that the weights have seen, too.

        Raises:
            BadInput: the window is empty or has been seen, or there is no log.
        """
        dataset = self._log(log).dataset
        return evaluate_run(self.folder, dataset, start, end, tab, allow_seen=allow_seen)

    def compare(self, *others: Run) -> pl.DataFrame:
        """Return the metrics of this run and others on their test days, a row a metric, a column a run."""
        runs = [self, *others]
        names = [run.folder.name for run in runs]
        if len(set(names)) < len(names):
            names = [str(run.folder) for run in runs]
        figures = [run.evaluation.metrics for run in runs]
        metrics = list(dict.fromkeys(metric for each in figures for metric in each))
        columns = {
            name: [None if (value := each.get(metric)) is None else float(value) for metric in metrics]
            for name, each in zip(names, figures, strict=True)
        }
        return pl.DataFrame({"metric": metrics, **columns})

    def plot(self, log: Any = None) -> Picture:
        """Draw the learned label over watch time and duration, and how its objective rose while learning.

        Args:
            log: as in `evaluate`; it decides how far the axes reach.
        """
        fitted = run_folder.read(self.folder, "evaluation").fitted
        surface = label_surface(fitted.labelcraft, self._log(log).dataset.interactions(fitted.vocabulary))
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        mesh = left.pcolormesh(
            surface["duration_s"],
            surface["watch_time_s"],
            surface["plain"],
            vmin=0,
            vmax=1,
            shading="nearest",
        )
        figure.colorbar(mesh, ax=left)
        left.set(title="learned label", xlabel="duration, s", ylabel="watch time, s")
        curve = fitted.curves["labels"]
        x, y = list(curve[0]) if curve else ("step", "composite")
        right.plot([point[x] for point in curve], [point[y] for point in curve])
        right.set(title="learning", xlabel=x, ylabel=y)
        return Picture(figure)

    def export(
        self,
        to: str | Path,
        *,
        promote: bool = False,
        require: str | Path | None = None,
        force: bool = False,
        allow_unlearned: bool = False,
    ) -> Path:
        """Write the release fit as a bundle, as `python -m training export`.

        Args:
            to: the folder of versions.
            promote: make it the active version.
            require: requirements that it must meet before: a file, or `default` for those that ship.
            force: promote it even if it predicts watch time worse than a constant, or fails one.
            allow_unlearned: export labels that were not shown to be learned.

        Returns:
            The version's folder.

        Raises:
            BadInput: the labels were not learned, a hate lifts candidates, or it must not be promoted.
        """
        dataset = None if self.log is None else self.log.dataset
        folder = export_run(self.folder, "final", Path(to), dataset, allow_unlearned=allow_unlearned)
        if promote:
            promote_version(
                folder.name,
                Path(to),
                require=None if require is None else Path(require),
                force=force,
                on_note=print,
            )
        return folder

    def _log(self, log: Any) -> Log:
        if log is None and self.log is not None:
            return self.log
        return log if isinstance(log, Log) else read_log(log)

    def __repr__(self) -> str:
        training = self.metrics["training"]
        return (
            f"Run of {training['recipe']} on {training['rows']:,} exposures, in {self.folder}\n{self.verdict}"
        )

    def _repr_html_(self) -> str:
        shown = ("mae_s", "rmse_s", "xauc", "nwtg@10", "neg@10")
        figures = self.evaluation.metrics
        rows = "".join(
            f"<tr><th>{name}</th><td>{figures[name]:.4g}</td></tr>"
            for name in shown
            if figures.get(name) is not None
        )
        return f"<p>{html.escape(repr(self))}</p><table>{rows}</table>"


def fit(
    log: Any,
    recipe: str = "any_log",
    *,
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    likes_hates: LikesHates | None = None,
    **overrides: Any,
) -> Run:
    """Fit a recipe, evaluate it on later days, and fit it again on all days, as `python -m training fit`.

    Args:
        log: a `Log`, or what `read_log` takes.
        recipe: a function of `training.train.recipes`.
        out: a new folder for the run; by default one that is removed with the run.
        seed: decides everything that is drawn.
        resume: continue from what a stopped fit into `out` has finished.
        likes_hates: what labels are learned from besides the log, see `training.data.read_likes_hates`.
        overrides: fields of the recipe's config; nested ones as mappings, such as `loop={"epochs": 6}`.

    Raises:
        BadInput: there is no such recipe or field, `out` exists, or the log does not allow the recipe.
    """
    log = log if isinstance(log, Log) else read_log(log)
    changes: Mapping[str, Any] = {"seed": seed, **overrides}
    config = override(recipe_config(recipe), changes, owner=f"the recipe {recipe!r}")
    temporary = tempfile.TemporaryDirectory(prefix="reelrank-run-") if out is None else None
    folder = Path(out) if out is not None else Path(temporary.name if temporary else "") / "run"
    with progress() as display:
        run_folder.fit(
            log.dataset,
            recipe,
            config,
            folder,
            display,
            likes_hates,
            on_epoch=display.epoch,
            on_note=print,
            resume=resume,
        )
    return Run(folder, log, temporary)


def open_run(folder: str | Path, log: Any = None) -> Run:
    """Open a run folder that `fit` wrote, with the log that it was fitted on, if that is at hand."""
    return Run(Path(folder), log if log is None or isinstance(log, Log) else read_log(log))
