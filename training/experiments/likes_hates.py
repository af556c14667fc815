"""`audit --likes-hates`: which labels put a user's likes above the hates, without seeing either."""

# Shape suffixes: N known rows, M liked and hated rows, R rows of slates, P parts, L labels.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.arrays import F32, F64
from models.errors import BadInput
from models.manifest import Evaluation
from models.runtime import Bundle
from training.data import Interactions, LikesHates, ms_to_day, read_likes_hates
from training.evaluation.fairness import Bootstrap
from training.evaluation.likes_above_hates import HALVES, LikesHatesEvaluator
from training.experiments.audit_data import AuditConfig
from training.experiments.engine import write_report
from training.experiments.jobs import Progress
from training.experiments.labels.config import LabelsConfig
from training.experiments.labels.figures import WindowFigures, composites_of
from training.experiments.labels.known_labels import known_labels, weights
from training.experiments.labels.methods import RULES, part_names
from training.experiments.labels.recommenders import Ridge
from training.experiments.labels.rolling import rolling_origin
from training.experiments.render import number
from training.labels import PCR, heuristic_label_makers, labels_of
from training.provenance import provenance
from training.staging import refuse_existing
from training.train import run_folder
from training.train.run_folder import Saved

LEARNED: Final = "labelcraft"
Labelled = Callable[[Interactions], F32 | F64]
"""Rows -> their labels."""


@dataclass(frozen=True)
class Label:
    """What orders the rows of the report, or why it cannot."""

    name: str
    description: str
    kind: str
    """`label`, of a label maker; `learned`; or `rule`, of no label maker."""
    label: F32 | F64 | None
    """`[N]`"""
    of_known: F32 | F64 | None
    """`[K]` of the rows before the slates' days."""
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
        config: `resamples`, `seed` and, with `data`, `k`, `test_days` and `all_tabs` are read.
        data: the log before whose test days the tables of hand-made label makers are read off, and on whose
            test days slates of `k` are chosen by a ridge regression on every label, for the composite beside
            likes above hates. Without it tables are of the rows themselves, and there is no composite.
        bundle: its learned label is a row.
        runs: the learned labels of their evaluation fits are rows.
        on_progress: called with the finished share.

    Returns:
        The content of `report.json`.

    Raises:
        BadInput: `out` exists, likes and hates cannot be read or compared, or there is no learned label.
    """
    refuse_existing(out)
    about = provenance()
    rows = read_likes_hates(folder)
    slates = None if data is None else _Slates(data, config)
    evaluator = LikesHatesEvaluator(
        rows, labels_of(PCR(), rows.log), Bootstrap(config.resamples, config.seed)
    )
    known = rows.log if slates is None else slates.known
    labels = [*_learned(rows.log, known, slates, bundle, runs), *_by_hand(rows.log, known)]
    composites = [None] * len(labels) if slates is None else slates.composites(labels)
    lines: list[dict[str, Any]] = []
    for n, (label, composite) in enumerate(zip(labels, composites, strict=True)):
        figures = None if label.label is None else evaluator.figures(label.label)
        row = {"name": label.name, "says": label.description, "kind": label.kind, "refused": label.refused}
        lines.append(row | {"composite": composite} | (figures or {}))
        on_progress((n + 1) / len(labels))
    parts = zip(HALVES, (rows, *rows.halves()), strict=True)
    report: dict[str, Any] = {
        "kind": "likes_hates",
        **about,
        "likes_hates": {half: _count(part) for half, part in parts} | {"without_duration": rows.dropped},
        "tables_of": None if slates is None else slates.origin.dataset.info.dataset,
        "slates": None if slates is None else slates.summary(),
        "config": config.model_dump(mode="json", include={"resamples", "seed", "k", "test_days", "all_tabs"}),
        "rows": _with_front(lines),
    }
    write_report(out, "report", report)
    return report


def table(report: dict[str, Any]) -> str:
    """Return what a terminal shows of a report."""
    composite = f"composite@{report['config']['k']}"
    lines = [f"{'AUC of likes above hates':36}{'all':>8}{'held out':>10}{'by user':>9}{composite:>14}"]
    for row in report["rows"]:
        cells = row["refused"] or (
            f"{row['whole']['auc']:>8.4f}{row['held_out']['auc']:>10.4f}{row['held_out']['user_auc']:>9.4f}"
            f"{number(row['composite']):>14}{'  front' * row['front']}"
        )
        lines.append(f"{row['name']:36}{cells}")
    if report["slates"] is not None:
        lines.append(
            "front: no other label has both more likes above hates (held out) and a higher composite"
        )
    return "\n".join(lines)


class _Slates:
    """What a ridge regression on any label would choose on a log's last days, in the composite.

    Args:
        data: the log.
        config: `k`, `test_days` and `all_tabs` are read.

    Raises:
        BadInput: the log cannot be read or is too short, or no user has enough candidates.
    """

    def __init__(self, data: Path, config: AuditConfig) -> None:
        labels = LabelsConfig(windows=2, window_days=config.test_days, k=config.k)
        self.origin = rolling_origin(data, labels, all_tabs=config.all_tabs)
        self.window = self.origin.windows[-1]
        self.known = self.origin.log.take(self.window.known)
        """The rows before these days, which labels and recommender are fitted on."""
        self._ridge = labels.closed_form.ridge
        composites = composites_of(self.origin.windows, config.k)
        self._figures = WindowFigures(self.origin.log, self.window, composites, config.k)

    def composites(self, labels: Sequence[Label]) -> list[float | None]:
        """Return the mean over users of each label, `None` where it has none of the known rows."""
        none_N = np.zeros(len(self.known), np.float32)
        columns = [none_N if label.of_known is None else label.of_known for label in labels]
        ridge = Ridge(self.origin, np.ones(len(self.origin.log.user_ids)), self._ridge)
        score_RL = ridge.scores(self.window, np.stack(columns, axis=1).astype(np.float32))[0]
        return [
            None if label.of_known is None else self._figures.composite(score_R)[0] / len(self.window.users)
            for label, score_R in zip(labels, score_RL.T, strict=True)
        ]

    def begins_after(self, moment_ms: int) -> bool:
        """Return whether none of the window's rows is from before a moment."""
        return bool(self.origin.log.timestamp_ms[self.window.rows].min() >= moment_ms)

    def summary(self) -> dict[str, Any]:
        """Return the window as JSON."""
        offset, time = self.origin.dataset.info.utc_offset_hours, self.origin.log.timestamp_ms
        days = [ms_to_day(int(ms), offset) for ms in (f(time[self.window.rows]) for f in (np.min, np.max))]
        return {"days": days, "known": len(self.known), "users": len(self.window.users)}


def _with_front(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with whether none is ahead of them in both the composite and likes above hates."""
    goals = [
        None if line["refused"] or line["composite"] is None else (line["composite"], line["held_out"]["auc"])
        for line in lines
    ]
    known = [goal for goal in goals if goal is not None]
    return [
        line | {"front": goal is not None and not any(_is_better(other, goal) for other in known)}
        for line, goal in zip(lines, goals, strict=True)
    ]


def _is_better(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def _count(rows: LikesHates) -> dict[str, int]:
    user, liked = rows.log.user, rows.liked
    return {
        "rows": len(liked),
        "likes": int(liked.sum()),
        "users": len(np.unique(user)),
        "users_with_both": len(np.intersect1d(user[liked], user[~liked])),
    }


def _learned(
    log: Interactions,
    known: Interactions,
    slates: _Slates | None,
    bundle: Bundle | None,
    runs: Sequence[Path],
) -> list[Label]:
    """Return the learned labels; of the known rows those that were learned before the slates' days."""

    def label(name: str, description: str, evaluation: Evaluation | None, labelled: Labelled) -> Label:
        unseen = slates and evaluation and slates.begins_after(evaluation.fitted_before_ms)
        return Label(
            f"{name} {LEARNED}", description, "learned", labelled(log), labelled(known) if unseen else None
        )

    labels = []
    if bundle is not None:
        manifest = bundle.manifest
        if LEARNED not in manifest.labels:
            raise BadInput(f"bundle {manifest.version} serves no label {LEARNED!r}; name one that does.")
        graph = partial(_by_graph, bundle)
        labels.append(label(manifest.version, "the bundle's learned label", manifest.evaluation, graph))
    for folder in runs:
        saved = run_folder.read(folder, "evaluation")
        maker = partial(_by_torch, saved)
        labels.append(label(folder.name, "the run's learned label", saved.evaluation, maker))
    return labels


def _by_torch(saved: Saved, log: Interactions) -> F32:
    return labels_of(saved.fitted.labelcraft, log.with_signals(saved.signals))


def _by_graph(bundle: Bundle, log: Interactions) -> F32:
    log = log.with_signals(bundle.manifest.signals)
    found = bundle.run_labeler({"feedback": log.feedback, "group_ids": log.groups}, [LEARNED])
    return np.asarray(found[LEARNED], np.float32)


def _by_hand(log: Interactions, known: Interactions) -> list[Label]:
    """Return hand-made labels, and rules; likes and hates are labelled without explicit feedback e."""
    makers = heuristic_label_makers()
    parts = tuple(dict.fromkeys((*(maker.name for maker in makers), *part_names(RULES))))
    label_NP, label_MP, refused = known_labels(
        known, np.zeros(len(known), np.int64), parts, {}, seed=0, others=log
    )
    labels = []
    for maker in makers:
        column = parts.index(maker.name)
        reason = refused.get(maker.name)
        if reason is None and np.ptp(label_MP[:, column]) == 0:
            reason = "it reads flags alone, so every row has the same label here"
        label_M = None if reason else label_MP[:, column]
        label_N = None if reason else label_NP[:, column]
        labels.append(Label(maker.name, maker.description, "label", label_M, label_N, reason))
    weight_PL = weights(RULES, parts, label_NP)
    for rule, weight_P in zip(RULES, weight_PL.T, strict=True):
        labels.append(Label(rule.name, "sum of labels", "rule", label_MP @ weight_P, label_NP @ weight_P))
    for name, description, order in _ORDERS:
        labels.append(Label(name, description, "rule", order(log), order(known)))
    return labels


_ORDERS: Final[tuple[tuple[str, str, Labelled], ...]] = (
    (
        "log w - .7 log d",
        "between watch time and watched share",
        lambda log: np.log(log.watch_time_s + 0.5) - 0.7 * np.log(log.duration_s),
    ),
    ("shortest", "the shortest video, however it was watched", lambda log: -log.duration_s),
)
"""Of a watch, that are no sums of label makers."""
