"""A run folder: what `fit` leaves, and what `evaluate --run` and `export` read.

config.json      the recipe's config, seed included
metrics.json     figures on the test days, learning curves, where they come from
judged.pt        weights and tables fitted before the test days
final.pt         the same recipe fitted on all days
*.vocabulary.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ValidationError
from torch import nn

from models.errors import BadInput
from models.manifest import Evaluation, Training
from models.vocabulary import Vocabulary
from training.data import Dataset
from training.provenance import command, commit, machine
from training.staging import atomic_folder
from training.train.fit import Fitted, Progress, RunConfig, boundaries, fit_once, judge_once, networks

Which = Literal["judged", "final"]
CONFIG: Final = "config.json"
METRICS: Final = "metrics.json"


@dataclass(frozen=True)
class Saved:
    """One of a run's two fits, read back."""

    config: RunConfig
    fitted: Fitted
    watermark_ms: int
    """Newest row it has seen."""
    profile_numbers: tuple[str, ...]
    profile_categories: tuple[str, ...]
    default_tab: str | None
    training: Training
    evaluation: Evaluation


def fit(dataset: Dataset, recipe: str, config: RunConfig, out: Path, progress: Progress) -> Evaluation:
    """Fit a recipe twice, judge the first fit, and leave a run folder.

    Raises:
        BadInput: `out` exists, or the log is too short for the recipe.
    """
    at_commit = commit()  # now: a long fit may see the next one
    with atomic_folder(out) as folder:
        before = boundaries(dataset, config, judged=True)
        judged = fit_once(dataset, config, before, lambda stage, share: progress(f"1/2 {stage}", share))
        evaluation = judge_once(dataset, config, judged, before)
        everything = boundaries(dataset, config, judged=False)
        final = fit_once(
            dataset, config, everything, lambda stage, share: progress(f"2/2 {stage}", share), like=judged
        )
        info = dataset.info
        (folder / CONFIG).write_text(config.model_dump_json(indent=1) + "\n")
        times = dataset.log["timestamp_ms"]
        watermark = {
            "judged": int(times.filter(times < before.test_ms).to_numpy().max()),
            "final": info.last_timestamp_ms,
        }
        training = Training(
            recipe=recipe,
            seed=config.seed,
            dataset=info.dataset,
            source=info.source,
            licence=info.licence,
            rows=len(dataset.log),
            users=dataset.log["user_id"].n_unique(),
            watermark_ms=info.last_timestamp_ms,
            git_commit=at_commit,
            machine=machine(),
        )
        note = {
            "command": command(),
            "training": training.model_dump(),
            "evaluation": evaluation.model_dump(),
            "watermark_ms": watermark,
            "weights": judged.weights,
            "epochs": {"labels": judged.label_epochs, "ranker": judged.ranker_epochs},
            "left_out": {"judged": judged.left_out, "final": final.left_out},
            "curves": {"judged": judged.curves, "final": final.curves},
            "profile_numbers": dataset.profile_numbers,
            "profile_categories": dataset.profile_categories,
            "default_tab": info.main_tab,
        }
        (folder / METRICS).write_text(json.dumps(note, indent=1) + "\n")
        for name, fitted in (("judged", judged), ("final", final)):
            (folder / f"{name}.vocabulary.json").write_bytes(fitted.vocabulary.to_bytes())
            state = {"labeler": fitted.labeler.state_dict(), "ranker": fitted.ranker.state_dict()}
            torch.save(state, folder / f"{name}.pt")
    return evaluation


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
        left_out: dict[str, str] = note["left_out"][which]
        labeler, ranker = networks(
            config,
            vocabulary,
            tuple(note["profile_numbers"]),
            tuple(note["profile_categories"]),
            left_out,
        )
        restore(labeler, state["labeler"])
        restore(ranker, state["ranker"])
        fitted = Fitted(
            vocabulary,
            labeler,
            ranker,
            note["weights"],
            note["epochs"]["labels"],
            note["epochs"]["ranker"],
            note["curves"][which],
            left_out,
        )
        return Saved(
            config,
            fitted,
            note["watermark_ms"][which],
            tuple(note["profile_numbers"]),
            tuple(note["profile_categories"]),
            note["default_tab"],
            Training.model_validate(note["training"]),
            Evaluation.model_validate(note["evaluation"]),
        )
    except (OSError, KeyError, ValueError, RuntimeError, ValidationError) as e:
        first = (str(e).splitlines() or [type(e).__name__])[0]
        raise BadInput(f"{folder} is not a run of this build: {first}. Fit it again.") from e


def restore(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load a state, tables included: a table is as large as the data made it, so its buffer is resized."""
    buffers = dict(module.named_buffers())
    for name, tensor in state.items():
        if name in buffers and buffers[name].shape != tensor.shape:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, torch.empty_like(tensor))
    module.load_state_dict(state)
    module.eval()
