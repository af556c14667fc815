"""A run folder: everything one `fit` writes, and what `evaluate --run` and `export` read.

config.json        the recipe's config, seed included
metrics.json       metrics on the test days, what shows that labels were learned, learning curves, provenance
evaluation.pt      weights and tables of the evaluation fit, before the test days
release.pt         those of the release fit, on all days
*.vocabulary.json
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ValidationError

from models.errors import BadInput
from models.manifest import Evaluation, Forgetting, LearnedLabels, Training
from models.signals import Signals
from models.video_features import VideoFeatures
from models.vocabulary import Vocabulary
from training.data import Dataset, LikesHates
from training.device import checked_device
from training.evaluation.comparisons import LEAST_USERS
from training.labelcraft.evidence import missing_evidence
from training.provenance import command, commit, machine
from training.staging import atomic_folder
from training.train.checkpoints import open_checkpoints
from training.train.fit import OnEpoch, Progress, evaluation_boundaries, fit_for_evaluation, refit
from training.train.fitted import Fitted, Networks
from training.train.identity import fit_identity
from training.train.objectives import choose_objectives, describe_left_out
from training.train.process_group import processes, rank
from training.train.run_config import RunConfig

Which = Literal["evaluation", "release"]
"""One of a run's two fits."""
CONFIG: Final = "config.json"
METRICS: Final = "metrics.json"


@dataclass(frozen=True)
class Saved:
    """One of a run's two fits, read back."""

    config: RunConfig
    fitted: Fitted
    watermark_ms: int
    """The newest timestamp it was fitted on."""
    profile_numbers: tuple[str, ...]
    profile_categories: tuple[str, ...]
    signals: Signals
    video_features: VideoFeatures
    default_tab: str | None
    training: Training
    evaluation: Evaluation


def fit(
    dataset: Dataset,
    recipe: str,
    config: RunConfig,
    out: Path,
    progress: Progress,
    likes_hates: LikesHates | None = None,
    *,
    on_epoch: OnEpoch = lambda stage, epoch, figures: None,
    on_note: Callable[[str], None] = lambda note: None,
    resume: bool = False,
    forgetting: Forgetting | None = None,
) -> Evaluation:
    """Fit a recipe for evaluation and for release, and write a run folder.

    Args:
        dataset: the log.
        recipe: the name of `config`.
        config: the run's.
        out: a new folder.
        progress: called with the stage and the share of it that is done.
        likes_hates: what labels are learned from besides the log, see `learn_surface`.
        on_epoch: called after each epoch of a ranker.
        on_note: called with what a reader should know of the log, in a sentence.
        resume: continue from what a stopped fit into `out` has finished.
        forgetting: recorded as the reason of a fit that replaces another one, with the seconds that it took.

    Returns:
        The metrics of the evaluation fit on the test days.

    Raises:
        BadInput: `out` exists, the device is not there, the log is too short for the recipe, or what was
            stopped is another fit.
    """
    _check_device(config)
    began, at_commit = time.monotonic(), commit()  # now: it may change during a long fit
    test_ms = evaluation_boundaries(dataset, config).test_ms
    tested = dataset.log.filter(dataset.log["timestamp_ms"] >= test_ms)
    if (users := tested["user_id"].n_unique()) < LEAST_USERS:
        on_note(
            f"the test days hold {len(tested):,} exposures of {users} users, and under {LEAST_USERS} users "
            "decide no comparison: take more with --test-days, or leave out a last day that has only begun"
        )
    config, left_out = choose_objectives(dataset, config, test_ms)
    if left_out and config.objectives is not None:
        on_note(describe_left_out(left_out, config.objectives.least))
    identity = fit_identity(dataset, recipe, config, likes_hates)
    with open_checkpoints(out, identity, resume=resume) as checkpoints:
        evaluated, evaluation = fit_for_evaluation(
            dataset,
            config,
            lambda stage, share: progress(f"1/2 {stage}", share),
            likes_hates,
            on_epoch=lambda stage, epoch, figures: on_epoch(f"1/2 {stage}", epoch, figures),
            checkpoints=checkpoints.part("evaluation"),
        )
        if missing := missing_evidence(evaluated.learned_labels):
            reasons = "; ".join(missing)
            on_note(
                f"labels are not shown to be learned, so export will ask for --allow-unlearned: {reasons}"
            )
        released = refit(
            dataset,
            config,
            lambda stage, share: progress(f"2/2 {stage}", share),
            from_=evaluated,
            on_epoch=lambda stage, epoch, figures: on_epoch(f"2/2 {stage}", epoch, figures),
            checkpoints=checkpoints.part("release"),
        )
        if rank() == 0:
            seconds = time.monotonic() - began
            made = None if forgetting is None else forgetting.model_copy(update={"seconds": seconds})
            fits: dict[Which, Fitted] = {"evaluation": evaluated, "release": released}
            write(out, dataset, recipe, config, left_out, at_commit, fits, evaluation, seconds, made)
    return evaluation


def _check_device(config: RunConfig) -> None:
    device = checked_device(config.loop.device)
    if device.type != "cpu" and processes() > 1:
        raise BadInput(
            f"processes that fit together exchange gradients on the CPU, and loop.device is {device}; fit in "
            "one process, or take cpu."
        )


def write(
    out: Path,
    dataset: Dataset,
    recipe: str,
    config: RunConfig,
    left_out: dict[str, int],
    at_commit: str,
    fits: Mapping[Which, Fitted],
    evaluation: Evaluation,
    seconds: float | None,
    forgetting: Forgetting | None,
) -> None:
    """Write a run folder.

    Args:
        out: a new folder.
        dataset: what both fits know of.
        recipe: the name of `config`.
        config: the run's.
        left_out: objectives that the log does not allow, and how often each happened.
        at_commit: of the code.
        fits: both.
        evaluation: of the first one.
        seconds: that fitting took, if it is known.
        forgetting: how rows left the weights, if any did.
    """
    with atomic_folder(out) as folder:
        info = dataset.info
        times = dataset.log["timestamp_ms"]
        training = Training(
            recipe=recipe,
            seed=config.seed,
            dataset=info.dataset,
            source=info.source,
            licence=info.licence,
            rows=len(dataset.log),
            users=dataset.log["user_id"].n_unique(),
            watermark_ms=info.last_timestamp_ms,
            forgotten_until_ms=info.forgotten_until_ms,
            forgetting=forgetting,
            git_commit=at_commit,
            machine=machine(),
        )
        evaluated = fits["evaluation"]
        note = {
            "command": command(),
            "seconds": seconds,
            "training": training.model_dump(),
            "evaluation": evaluation.model_dump(),
            "watermark_ms": {
                "evaluation": int(times.filter(times < evaluation.fitted_before_ms).to_numpy().max()),
                "release": info.last_timestamp_ms,
            },
            "weights": evaluated.weights,
            "learned_labels": evaluated.learned_labels.model_dump(),
            "epochs": {"ranker": evaluated.ranker_epochs},
            "objectives_left_out": left_out,
            "refused": {which: fitted.refused for which, fitted in fits.items()},
            "curves": {which: fitted.curves for which, fitted in fits.items()},
            "profile_numbers": dataset.profile_numbers,
            "profile_categories": dataset.profile_categories,
            "signals": dataset.signals.model_dump(),
            "video_features": dataset.video_features.model_dump(),
            "default_tab": info.main_tab,
        }
        (folder / CONFIG).write_text(config.model_dump_json(indent=1) + "\n")
        (folder / METRICS).write_text(json.dumps(note, indent=1) + "\n")
        for which, fitted in fits.items():
            (folder / f"{which}.vocabulary.json").write_bytes(fitted.vocabulary.to_bytes())
            state = {"label_makers": fitted.label_makers.state_dict(), "ranker": fitted.ranker.state_dict()}
            torch.save(state, folder / f"{which}.pt")


def read(folder: Path, which: Which) -> Saved:
    """Read one of a run's two fits back.

    Raises:
        BadInput: not a run folder, or one of another build.
    """
    try:
        config = RunConfig.model_validate_json((folder / CONFIG).read_bytes())
        note: dict[str, Any] = json.loads((folder / METRICS).read_text())
        vocabulary = Vocabulary.read(folder / f"{which}.vocabulary.json")
        state = torch.load(folder / f"{which}.pt", weights_only=True)
        numbers, categories = tuple(note["profile_numbers"]), tuple(note["profile_categories"])
        state["refused"] = note["refused"][which]
        signals = Signals.model_validate(note.get("signals", {}))
        features = VideoFeatures.model_validate(note.get("video_features", {}))
        networks = Networks.from_state(config, vocabulary, numbers, categories, signals, features, state)
        return Saved(
            config,
            Fitted(
                vocabulary,
                networks.label_makers,
                networks.ranker,
                note["weights"],
                LearnedLabels.model_validate(note["learned_labels"]),
                note["epochs"]["ranker"],
                note["curves"][which],
                networks.refused,
            ),
            note["watermark_ms"][which],
            numbers,
            categories,
            signals,
            features,
            note["default_tab"],
            Training.model_validate(note["training"]),
            Evaluation.model_validate(note["evaluation"]),
        )
    except (OSError, KeyError, ValueError, RuntimeError, ValidationError) as e:
        first = (str(e).splitlines() or [type(e).__name__])[0]
        raise BadInput(f"{folder} is not a run of this build: {first}. Fit it again.") from e
