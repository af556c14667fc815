"""The comparison from the log to `report.json`: grids of jobs, then figures, then differences."""

# Shape suffixes: R rows of a window's slates, M methods, W windows, V users of all windows, D redraws.

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.arrays import F64, I64
from training.data import ms_to_day, read_likes_hates
from training.evaluation.bootstrap import Resamples, holm, self_p_values
from training.experiments.engine import digest, partial_path, write_report
from training.experiments.jobs import Checkpoint, Job, Outcome, Progress, run_jobs
from training.experiments.labels.config import LabelsConfig
from training.experiments.labels.figures import COMPOSITES, FIGURES, WindowFigures, composites_of
from training.experiments.labels.jobs import LABELS, NETWORK, RIDGE, TREES, Plan, prepare
from training.experiments.labels.methods import GRID, Method, is_rule
from training.experiments.labels.recommenders import order_scores
from training.experiments.labels.rolling import RollingOrigin, rolling_origin
from training.experiments.results import summarize_seeds
from training.experiments.significance import SIGNIFICANT
from training.provenance import provenance
from training.staging import refuse_existing

REFERENCE: Final = "labelcraft"
_LEAST_REPEATED: Final = 4
"""Redraws of a method that can be compared with itself, by halves."""
KINDS: Final = {
    RIDGE: "ridge regression in closed form, the kind that labels are learned through",
    TREES: "boosted trees",
    NETWORK: "SASRec4SV",
}
"""The kinds of recommenders that labels are compared with, by the names of their jobs."""

Outcomes = Mapping[Job, Outcome]


def run_labels(
    data: Path,
    out: Path,
    methods: Sequence[Method],
    config: LabelsConfig,
    *,
    likes_hates: Path | None = None,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Compare labels, and write `report.json`, `report.md` and pictures to a new folder.

    Finished jobs are kept beside `out` until the report is written; the same command continues from there.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        methods: the rows of the table.
        config: windows, redraws and hyperparameters.
        likes_hates: a folder of likes and hates, see `read_likes_hates`. Labels are learned from half of
            its users, and the others count likes above hates.
        processes: jobs at once, one thread each.
        on_progress: called with the finished share.

    Returns:
        The content of `report.json`.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, or no user has enough candidates.
    """
    refuse_existing(out)
    about = provenance()  # now: a long run may see the next commit
    origin = rolling_origin(data, config)
    names = [method.name for method in methods]
    # Not their number of redraws, but that of the ridge regressions picks rules.
    decisive = config.model_dump_json(exclude={"tree_seeds", "network_seeds", "resamples"})
    rows = None if likes_hates is None else read_likes_hates(likes_hates)
    known = "" if rows is None else f"{rows.log.feedback.sum()} {rows.liked.sum()}"
    checkpoint = Checkpoint(partial_path(out), digest(data, f"{decisive}{names}{known}"))
    plan = Plan(tuple(methods), config, out.parent / f".{out.name}.{checkpoint.digest[:8]}", rows)
    plan.folder.mkdir(parents=True, exist_ok=True)

    def run(jobs: Sequence[Job], start: float, end: float) -> Outcomes:
        return run_jobs(
            jobs[::-1],  # the last window takes longest
            partial(prepare, data, likes_hates, names, config, plan.folder),
            checkpoint,
            processes=processes,
            on_progress=lambda share: on_progress(start + (end - start) * share),
        )

    labels = run([Job(LABELS, index) for index in range(len(origin.windows))], 0.0, 0.2)
    run([Job(RIDGE, redraw) for redraw in range(config.seeds)], 0.2, 0.4)  # rules are picked by them, too
    composites = composites_of(origin.windows, config.k)
    figures = [WindowFigures(origin.log, window, composites, config.k) for window in origin.windows]
    plan.save_picks(_pick(plan, figures))
    run(plan.jobs(TREES), 0.4, 0.8)
    run(plan.jobs(NETWORK), 0.8, 1.0)
    report = {
        "kind": "labels",
        **about,
        "dataset": _summary(origin, config),
        "config": config.model_dump(mode="json"),
        "deviations": {name: one.deviations for name, one in composites.items()},
        **_compare(origin, plan, figures, labels),
    }
    write_report(out, "report", report)
    checkpoint.remove()
    shutil.rmtree(plan.folder)
    return report


def _pick(plan: Plan, figures: Sequence[WindowFigures]) -> dict[str, list[str]]:
    """Return the rule with the best composite by the ridge regression, a window each: on those before it, and
    on all that are evaluated. Before the first there is none, and any rule stands there unread."""
    rules = [method for method in (*plan.methods, *GRID) if is_rule(method)]
    total_WMC = np.zeros((len(figures), len(rules), len(COMPOSITES)))
    for index, window in enumerate(figures):
        weight_PM = plan.weights(rules, index)
        for redraw in range(plan.config.seeds):
            score_RM = plan.load(Job(RIDGE, redraw), index)[0] @ weight_PM
            total_WMC[index] += [window.composite(score_R) for score_R in score_RM.T]
    picks = {}
    for total_WM, suffix in zip(np.moveaxis(total_WMC, 2, 0), ("", " (paper)"), strict=True):
        past = [total_WM[:index].sum(axis=0).argmax() for index in range(len(figures))]
        best = total_WM[1:].sum(axis=0).argmax()
        picks[f"past{suffix}"] = [rules[int(rule)].name for rule in past]
        picks[f"hindsight{suffix}"] = [rules[int(best)].name] * len(figures)
    return picks


def _summary(origin: RollingOrigin, config: LabelsConfig) -> dict[str, Any]:
    """Return the source of the log, and days, rows and users of the windows, as JSON."""
    info, log = origin.dataset.info, origin.log
    windows = []
    for window in origin.windows:
        time = log.timestamp_ms[window.rows]
        windows.append(
            {
                "days": [ms_to_day(int(ms), info.utc_offset_hours) for ms in (time.min(), time.max())],
                "known": len(window.known),
                "rows": len(window.rows),
                "users": len(window.users),
                "users_with_feedback": int(
                    (window.candidates.explicit * window.candidates.mask).any(1).sum()
                ),
            }
        )
    source = {"dataset": info.dataset, "source": info.source, "licence": info.licence, "tab": info.main_tab}
    return {**source, "rows": len(log), "windows": windows}


def _values(origin: RollingOrigin, plan: Plan, figures: Sequence[WindowFigures], kind: str) -> dict[str, F64]:
    """Return `[D, figures, V]` by method: of every redraw the users of all evaluated windows."""
    values: dict[str, list[list[F64]]] = {}
    for redraw in range(max(plan.redraws(kind, method) for method in plan.methods)):
        random = np.random.default_rng((plan.config.seed, redraw, 1))
        for index in range(1, len(origin.windows)):
            window, fitted = origin.windows[index], plan.fitted(kind, redraw, index)
            scores = plan.load(Job(kind, redraw), index) if fitted else np.zeros(0)
            if kind == RIDGE and fitted:
                both = scores @ plan.weights(fitted, index)
                scores = np.stack([both[int(m.duration_blind), :, i] for i, m in enumerate(fitted)], axis=1)
            found = {method.name: scores[:, column] for column, method in enumerate(fitted)}
            orders = [m for m in plan.methods if m.order and redraw < plan.redraws(kind, m)]
            found |= {m.name: order_scores(origin, window, m.order, random) for m in orders if m.order}
            for name, score_R in found.items():
                redraws = values.setdefault(name, [])
                redraws.extend([] for _ in range(redraw + 1 - len(redraws)))
                redraws[redraw].append(figures[index].values(score_R))
    return {name: np.stack([np.concatenate(w, axis=1) for w in d]) for name, d in values.items()}


def _compare(
    origin: RollingOrigin, plan: Plan, figures: Sequence[WindowFigures], labels: Outcomes
) -> dict[str, Any]:
    """Return the rows, figures of their labels, and the power of the comparison."""
    user_V = np.concatenate([window.users for window in origin.evaluated])
    window_V = np.concatenate([np.full(len(w.users), i) for i, w in enumerate(origin.evaluated)])
    resamples = Resamples.draw(user_V, plan.config.resamples, seed=plan.config.seed)
    outcomes = [labels[Job(LABELS, index)].result for index in range(1, len(origin.windows))]
    refused = {part: why for outcome in outcomes for part, why in outcome["refused"].items()}
    learned = [name for name in outcomes[-1]["learned"] if name not in refused]
    rows: list[dict[str, Any]] = []
    for method in plan.methods:
        reason = next((refused[part] for part in method.parts if part in refused), None)
        facts = outcomes[-1]["facts"].get(method.name, {})
        rows.append(
            {
                "method": method.name,
                "says": method.description,
                "refused": reason,
                "learned": method.learned is not None,
                "decisive": method.decisive,
                "paper": method.paper,
                "ablation": method.ablation,
                "label": facts,
                "metrics": {},
                "against": {},
            }
        )
    power: dict[str, Any] = {}
    for kind in KINDS:
        values = _values(origin, plan, figures, kind)
        usable = [row for row in rows if row["refused"] is None and row["method"] in values]
        for row in usable:
            row["metrics"] |= _summaries(values[row["method"]], window_V, kind, plan.config.k)
        if usable:
            power[kind] = _add_differences(usable, values, resamples, kind, plan.config)
    distances = {name: [outcome["learned"][name]["distance"] for outcome in outcomes] for name in learned}
    surfaces = {name: outcomes[-1]["learned"][name]["surface"] for name in learned}
    return {"power": power, "picks": plan.picks(), "distances": distances, "surfaces": surfaces, "rows": rows}


def metric(kind: str, figure: str, k: int) -> str:
    """Return the name of a figure in the report: `composite@5`, or `trees.composite@5`."""
    return f"{figure}@{k}" if kind == RIDGE else f"{kind}.{figure}@{k}"


def _summaries(value_DFV: F64, window_V: I64, kind: str, k: int) -> dict[str, Any]:
    """Return every figure: mean and deviation over the redraws, and means of the windows."""
    summaries = {}
    for figure, value_DV in zip(FIGURES, np.moveaxis(value_DFV, 1, 0), strict=True):
        has_V = np.isfinite(value_DV).all(axis=0)
        means = [float(v) for v in value_DV[:, has_V].mean(axis=1)] if has_V.any() else [None] * len(value_DV)
        windows = [value_DV[:, has_V & (window_V == w)] for w in np.unique(window_V)]
        summaries[metric(kind, figure, k)] = summarize_seeds(means)._asdict() | {
            "windows": [float(w.mean()) if w.size else None for w in windows]
        }
    return summaries


def _add_differences(
    rows: Sequence[dict[str, Any]],
    values: Mapping[str, F64],
    resamples: Resamples,
    kind: str,
    config: LabelsConfig,
) -> dict[str, Any]:
    """Add to each row how far the reference is ahead of it, and return the power of each figure."""
    power = {}
    others = [row for row in rows if row["method"] != REFERENCE] if REFERENCE in values else []
    repeated = [v for row in rows if len(v := values[row["method"]]) >= _LEAST_REPEATED]
    for index, figure in enumerate(FIGURES[:-1]):  # the last is no goal
        tested = []
        for row in others:
            reference_DFV, method_DFV = values[REFERENCE], values[row["method"]]
            pairs = min(len(reference_DFV), len(method_DFV))
            found = resamples.difference(reference_DFV[:pairs, index], method_DFV[:pairs, index])
            if found is not None:
                tested.append((row, found))
        corrected = holm([found.p_value for _, found in tested])
        for (row, found), p_adjusted in zip(tested, corrected, strict=True):
            row["against"][metric(kind, figure, config.k)] = found._asdict() | {"p_adjusted": p_adjusted}
        same = self_p_values(
            resamples, [v[:, index] for v in repeated], config.same_label_trials, seed=config.seed
        )
        power[metric(kind, figure, config.k)] = {
            "detectable": float(np.median([found.detectable for _, found in tested])) if tested else None,
            "same_label_marked": float(np.mean(np.array(same) < SIGNIFICANT)) if same else None,
            "same_label_trials": len(same),
        }
    return power
