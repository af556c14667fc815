"""`audit --likes-hates`: which labels put a user's likes above the hates, without seeing either."""

# Shape suffixes: N rows.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32, F64
from models.errors import BadInput
from models.runtime import Bundle
from training.data import Interactions, LikesHates, load, read_likes_hates
from training.evaluation.fairness import Bootstrap
from training.evaluation.likes_above_hates import HALVES, LikesHatesEvaluator
from training.experiments.audit_data import AuditConfig
from training.experiments.engine import write_report
from training.experiments.jobs import Progress
from training.labels import PCR, ProgressView, Scale, fit_heuristics, labels_of
from training.provenance import provenance
from training.staging import refuse_existing
from training.train import run_folder

LEARNED: Final = "labelcraft"


@dataclass(frozen=True)
class Label:
    """What orders the rows of the report, or why it cannot."""

    name: str
    description: str
    kind: str
    """`label`, of a label maker; `learned`; or `rule`, of no label maker."""
    label: F32 | F64 | None
    """`[N]`"""
    refused: str | None = None


def audit_likes_hates(
    folder: Path,
    out: Path,
    config: AuditConfig,
    *,
    data: Path | None = None,
    bundle: Bundle | None = None,
    runs: Sequence[Path] = (),
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Report how often each label puts a like above a hate, as `report.json` and `report.md`.

    Args:
        folder: of likes and hates, see `read_likes_hates`.
        out: a new folder.
        config: `resamples` and `seed` are read.
        data: the log that the tables of hand-made label makers are read off; without it, the rows themselves.
        bundle: its learned label is a row.
        runs: the learned labels of their evaluation fits are rows.
        on_progress: called with the finished share.

    Returns:
        The content of `report.json`.

    Raises:
        BadInput: `out` exists, likes and hates cannot be read or compared, or there is no learned label.
    """
    refuse_existing(out)
    origin = provenance()
    rows = read_likes_hates(folder)
    if data is None:
        known = rows.log
    else:
        dataset = load(data)
        known = dataset.interactions(dataset.vocabulary())
    evaluator = LikesHatesEvaluator(
        rows, labels_of(PCR(), rows.log), Bootstrap(config.resamples, config.seed)
    )
    labels = [*_learned(rows.log, bundle, runs), *_hand_made(rows.log, known), *_rules(rows.log, known)]
    lines = []
    for n, label in enumerate(labels):
        figures = None if label.label is None else evaluator.figures(label.label)
        row = {"name": label.name, "says": label.description, "kind": label.kind, "refused": label.refused}
        lines.append(row | (figures or {}))
        on_progress((n + 1) / len(labels))
    parts = zip(HALVES, (rows, *rows.halves()), strict=True)
    report: dict[str, Any] = {
        "kind": "likes_hates",
        **origin,
        "likes_hates": {half: _count(part) for half, part in parts} | {"without_duration": rows.dropped},
        "tables_of": None if data is None else dataset.info.dataset,
        "config": config.model_dump(mode="json", include={"resamples", "seed"}),
        "rows": lines,
    }
    write_report(out, "report", report)
    return report


def _count(rows: LikesHates) -> dict[str, int]:
    user, liked = rows.log.user, rows.liked
    return {
        "rows": len(liked),
        "likes": int(liked.sum()),
        "users": len(np.unique(user)),
        "users_with_both": len(np.intersect1d(user[liked], user[~liked])),
    }


def _learned(log: Interactions, bundle: Bundle | None, runs: Sequence[Path]) -> list[Label]:
    labels = []
    if bundle is not None:
        version = bundle.manifest.version
        if LEARNED not in bundle.manifest.labels:
            raise BadInput(f"bundle {version} serves no label {LEARNED!r}; name one that does.")
        found = bundle.run_labeler({"feedback": log.feedback, "group_ids": log.groups}, [LEARNED])
        label_N = np.asarray(found[LEARNED], np.float32)
        labels.append(Label(f"{version} {LEARNED}", "the bundle's learned label", "learned", label_N))
    for folder in runs:
        maker = run_folder.read(folder, "evaluation").fitted.labelcraft
        labels.append(
            Label(f"{folder.name} {LEARNED}", "the run's learned label", "learned", labels_of(maker, log))
        )
    return labels


def _hand_made(log: Interactions, known: Interactions) -> list[Label]:
    makers, refused = fit_heuristics(known)
    labels = []
    for maker in makers:
        label_N = labels_of(maker, log)
        if label_N.min() == label_N.max():
            refused[maker.name] = "it reads flags alone, so every row has the same label here"
        else:
            labels.append(Label(maker.name, maker.description, "label", label_N))
    return labels + [Label(name, "", "label", None, reason) for name, reason in refused.items()]


def _rules(log: Interactions, known: Interactions) -> list[Label]:
    """Combinations of watch time and duration by hand; those with explicit feedback e are without it here."""
    watch_scale = Scale(name="watch time").fit(known.watch_time_s)
    duration_scale = Scale(name="duration").fit(known.duration_s)
    long_view = ProgressView("lv").fit(known)

    def scaled(scale: Scale, seconds_N: F32) -> F64:
        scaled_N: F64 = scale(torch.from_numpy(seconds_N)).numpy().astype(np.float64)
        return scaled_N

    w_N, d_N = scaled(watch_scale, log.watch_time_s), scaled(duration_scale, log.duration_s)
    share_N, long_N = labels_of(PCR(), log).astype(np.float64), labels_of(long_view, log).astype(np.float64)
    long_sd = labels_of(long_view, known).std()
    duration_sd = scaled(duration_scale, known.duration_s).std()
    rules = (
        ("PCR + 2 WT", "watched share and twice the scaled watch time", share_N + 2 * w_N),
        ("PCR + 2 WT + .3 d", "the same and the scaled duration", share_N + 2 * w_N + 0.3 * d_N),
        ("WT + e + .3 d", "a row's own share of LabelCraft's objectives", w_N + 0.3 * d_N),
        ("LV + .15 d", "long view and duration, in deviations", long_N / long_sd + 0.15 * d_N / duration_sd),
        (
            "log w - .7 log d",
            "between watch time and watched share",
            np.log(log.watch_time_s + 0.5) - 0.7 * np.log(log.duration_s),
        ),
        ("shortest", "the shortest video, however it was watched", -log.duration_s),
    )
    return [Label(name, description, "rule", label_N) for name, description, label_N in rules]
