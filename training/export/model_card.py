"""The figures of a bundle as Markdown, for READMEs: what was fitted, how it was judged, what came out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from models.manifest import Evaluation, Manifest
from models.store import BundleStore

_ROWS = (
    ("MAE, s", "mae_s", ".2f"),
    ("RMSE, s", "rmse_s", ".2f"),
    ("XAUC", "xauc", ".4f"),
    ("GAUC of long view", "gauc_long_view", ".4f"),
    ("NWTG@10", "nwtg@10", ".4f"),
    ("NEG@10", "neg@10", ".4f"),
    ("DS@10, s", "ds@10", ".1f"),
    ("users@10", "users@10", "d"),
    ("rows", "rows", "d"),
)


def card(bundles: Path) -> str:
    """Markdown of the active bundle under `bundles`, ending with a newline.

    Raises:
        BundleNotFound, CorruptBundle, ContractMismatch: see `Manifest.read`.
    """
    store = BundleStore(bundles)
    folder = store.path(store.current())
    manifest = Manifest.read(folder)
    made = manifest.training
    size = sum(f.stat().st_size for f in folder.iterdir())
    lines = [
        f"Bundle `{manifest.version}`, {size / 1e6:.1f} MB: {made.dataset}, {made.rows:,} exposures of "
        f"{made.users:,} users up to {_time(made.watermark_ms)}; recipe `{made.recipe}`, seed {made.seed}, "
        f"commit `{made.git_commit[:12]}`, on {made.machine}.",
        "",
    ]
    if manifest.evaluation is not None:
        lines += _table(manifest.evaluation, manifest.default_tab)
    return "\n".join(lines) + "\n"


def _table(judged: Evaluation, tab: str | None) -> list[str]:
    columns = {"all rows": judged.metrics}
    if tab is not None and tab in judged.by_tab:
        columns[f"tab {tab}"] = judged.by_tab[tab]
    lines = [
        f"The same recipe fitted before {_time(judged.fitted_before_ms)} and judged once on "
        f"{_time(judged.from_ms)} to {_time(judged.to_ms)}, which it had not seen:",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for title, key, form in _ROWS:
        cells = [_cell(figures.get(key), form) for figures in columns.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for name, figures in judged.baselines.items():
        keys = ["mae_s", *(f"mae_s.tab_{tab}" for _ in range(len(columns) - 1))]
        cells = [_cell(figures.get(key), ".2f") for key in keys]
        lines.append(f"| MAE of the {name} before the window, s | " + " | ".join(cells) + " |")
    return lines


def _cell(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
