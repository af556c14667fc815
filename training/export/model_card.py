"""The model card of a bundle as Markdown: what it was fitted on, how it was evaluated, and its metrics."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from models.manifest import Evaluation, LearnedLabels, Manifest, Margin
from models.metrics import DURATIONS_S, STATES
from models.store import BundleStore
from training.gate import DEFAULT, REQUESTS, Requirements, check_requirements, table
from training.verdict import verdict

_ROWS: Final = (
    ("MAE, s", "mae_s", ".2f"),
    ("RMSE, s", "rmse_s", ".2f"),
    ("RMSE of the mean, s", "rmse_mean_s", ".2f"),
    ("CRPS, s", "crps_s", ".2f"),
    ("share between p10 and p90", "coverage_p10_p90", ".3f"),
    *((f"calibration error of P({state})", f"ece_{state}", ".4f") for state in STATES),
    ("mean minus watched, s", "bias_mean_s", "+.2f"),
    *((f"the same from {start:.0f} s", f"bias_mean_s.duration_{start:.0f}", "+.2f") for start in DURATIONS_S),
    ("XAUC", "xauc", ".4f"),
    ("GAUC of long view", "gauc_long_view", ".4f"),
    ("NWTG@10", "nwtg@10", ".4f"),
    ("NEG@10", "neg@10", ".4f"),
    ("DS@10, s", "ds@10", ".1f"),
    ("candidates that gain by a hate of their author", "gains_after_hate", ".1%"),
    ("by a skip", "gains_after_skip", ".1%"),
    ("by a whole view", "gains_after_whole_view", ".1%"),
    ("users with more than 10 exposures", "users@10", "d"),
    ("exposures", "rows", "d"),
)


def card(bundles: Path) -> str:
    """Return the model card of the active bundle as Markdown, ending with a newline.

    Args:
        bundles: folder of bundle versions with its `CURRENT`.

    Raises:
        BundleNotFound, CorruptBundle, ContractMismatch, SelfTestFailed: see `Bundle.load`.
    """
    store = BundleStore(bundles)
    folder = store.path(store.current())
    manifest = Manifest.read(folder)
    training = manifest.training
    size = sum(file.stat().st_size for file in folder.iterdir())
    lines = [
        f"Bundle `{manifest.version}`, {size / 1e6:.1f} MB, fitted on {training.dataset}: {training.rows:,} "
        f"exposures of {training.users:,} users up to {_time(training.watermark_ms)}; recipe "
        f"`{training.recipe}`, seed {training.seed}, commit `{training.git_commit[:12]}`, "
        f"{training.machine}.",
        "",
    ]
    if manifest.learned_labels is not None:
        lines += [_learned(manifest.learned_labels), ""]
    if manifest.evaluation is not None:
        lines += [*_table(manifest.evaluation, manifest.default_tab), ""]
    required = Requirements(behaviours=Requirements.read(DEFAULT).behaviours)
    lines += [
        f"Requirements that ship, on {REQUESTS:,} drawn requests to the exported ranker:",
        "",
        table(check_requirements(required, folder, None)),
    ]
    return "\n".join(lines) + "\n"


def _learned(labels: LearnedLabels) -> str:
    how = "steps in closed form" if labels.learner == "closed_form" else "epochs through one step"
    text = f"Labels: learned in {labels.steps} {how}, {labels.distance:.2f} deviations from their start."
    if (evidence := labels.evidence) is not None:
        text += (
            f" On {evidence.windows} later windows of days ({evidence.users:,} users) their composite of "
            f"{', '.join(evidence.objectives)} is {evidence.composite['learned']:.3f}: "
            f"{_margin(evidence.over_frozen)} over labels at their start, {_margin(evidence.over_shuffled)} "
            "over labels learned from shuffled gradients. Labels learned on disjoint halves of the users "
            f"correlate by {evidence.halves_correlation:.2f}."
        )
        if evidence.by_objective:
            each = (
                f"{name} {value['frozen']:.4f} to {value['learned']:.4f}"
                for name, value in evidence.by_objective.items()
            )
            text += f" From their start to what was learned, the objectives went: {', '.join(each)}."
    if labels.left_out:
        text += f" Nothing was learned for {', '.join(labels.left_out)}: all slates have the same."
    if labels.choices is not None:
        chosen = labels.choices.model_dump().items()
        text += f" Chosen: {', '.join(f'{name} {value:g}' for name, value in chosen)}."
    if (likes := labels.likes_above_hates) is not None:
        text += (
            f" For {likes.users:,} users whom they were not learned from, they put a like "
            f"above a hate in {likes.auc:.1%} of the pairs without seeing either; the watched share does in "
            f"{likes.watched_share_auc:.1%}."
        )
    if labels.allowed_unlearned is not None:
        text += f" **Not shown to be learned**: {labels.allowed_unlearned}."
    return text


def _margin(margin: Margin) -> str:
    return f"{margin.difference:+.3f} (95 %: {margin.low:+.3f} to {margin.high:+.3f})"


def _table(evaluation: Evaluation, tab: str | None) -> list[str]:
    columns = {"all exposures": evaluation.metrics}
    if tab is not None and tab in evaluation.by_tab:
        columns[f"tab {tab}"] = evaluation.by_tab[tab]
    lines = [
        f"Evaluation fit: the same recipe, fitted on the days before {_time(evaluation.fitted_before_ms)} "
        f"and evaluated once on {_time(evaluation.from_ms)} to {_time(evaluation.to_ms)}.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for title, key, form in _ROWS:
        if any(key in metrics for metrics in columns.values()):
            cells = [_cell(metrics.get(key), form) for metrics in columns.values()]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for name, metrics in evaluation.baselines.items():
        figure = "mae_s" if "mae_s" in metrics else "rmse_s"
        keys = [figure, *(f"{figure}.tab_{tab}" for _ in range(len(columns) - 1))]
        cells = [_cell(metrics.get(key), ".2f") for key in keys]
        title = f"{figure.removesuffix('_s').upper()} of the {name.replace('_', ' ')} of the earlier days, s"
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    if evaluation.comparisons:
        lines += ["", verdict(evaluation.comparisons)]
    return lines


def _cell(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
