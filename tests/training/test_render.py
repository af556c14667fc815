"""Reports are a function of their JSON: every committed one renders again to the letter."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import BadInput
from tests.conftest import ROOT
from training.experiments.plots import free_spots, heat_maps
from training.experiments.render import (
    SOURCES,
    Column,
    adjusted,
    cells,
    changes,
    estimate,
    interval,
    lead,
    markdown,
    number,
    ranked,
    render,
)

REPORTS = sorted(path for path in (ROOT / "training" / "reports").iterdir() if path.is_dir())
RENDERERS = ("__init__", "render", "pictures", "plots", "significance")
MAE, XAUC = Column("mae_s", "MAE, s", 2, "min"), Column("xauc", "XAUC", 2)


def row(method: str, mae_s: float | None, xauc: float, **paired: float) -> dict[str, Any]:
    """One row of a report, with `paired` as its difference to the reference in XAUC."""
    metrics = {"mae_s": mae_s, "xauc": xauc}
    return {
        "method": method,
        "says": f"what {method} is",
        "refused": None,
        "metrics": {name: {"mean": value, "std": 0.01, "seeds": [value]} for name, value in metrics.items()},
        "against": {"xauc": {"ci": [-0.1, 0.3], **paired}} if paired else {},
    }


ROWS = [
    row("lda", 20.0, 0.60),
    row("vr", 24.0, 0.50, difference=0.1, p_value=0.01),
    row("or", 19.0, 0.70, difference=-0.1, p_value=0.01),
    row("d2q", None, 0.65, difference=-0.05, p_value=0.2),
]


@pytest.mark.parametrize("folder", REPORTS, ids=lambda folder: folder.name)
def test_a_committed_report_is_what_its_json_renders_to(folder: Path) -> None:
    (document,) = {SOURCES[path.name] for path in folder.glob("*.json") if path.name in SOURCES}
    text = (folder / document).read_text()
    assert markdown(folder) == text, f"run `python -m training render {folder}`"
    assert set(re.findall(r"!\[[^]]*\]\((\S+)\)", text)) == {path.name for path in folder.glob("*.png")}
    report = json.loads(next(path for path in folder.glob("*.json") if path.name in SOURCES).read_text())
    assert all(report[name] in text for name in ("command", "commit", "machine"))


def test_renderers_import_nothing_of_training_but_each_other() -> None:
    """So a report renders without the experiments, their data and torch."""
    allowed = re.compile(
        r"(training\.experiments(\.(render|pictures|plots|significance))?|models\.(arrays|errors)|jinja2|matplotlib|numpy)\b"
    )
    for name in RENDERERS:
        tree = ast.parse((ROOT / "training" / "experiments" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert (
                    module.split(".")[0] in sys.stdlib_module_names
                    or allowed.fullmatch(module.split(" ")[0])
                    or (module.startswith("matplotlib."))
                ), f"{name} imports {module}"


def test_a_report_is_rendered_into_its_folder_with_its_pictures(tmp_path: Path) -> None:
    source = ROOT / "training" / "reports" / "objectives-kuairand-pure"
    (tmp_path / "report.json").write_bytes((source / "report.json").read_bytes())
    render(tmp_path)
    assert (tmp_path / "report.md").read_bytes() == (source / "report.md").read_bytes()
    assert (tmp_path / "bars.png").stat().st_size > 5000


def test_a_folder_without_a_report_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds none of report.json"):
        render(tmp_path)


# --- cells


def test_the_best_value_is_bold_and_the_method_that_wins_is_marked() -> None:
    found = [cells(row, (MAE, XAUC), ROWS) for row in ROWS]
    assert found == [
        "20.00 ± 0.01 | 0.60 ± 0.01",
        "24.00 ± 0.01 | 0.50 ± 0.01 ▼",
        "**19.00 ± 0.01** | **0.70 ± 0.01** ▲",
        "– | 0.65 ± 0.01",
    ]


def test_a_corrected_p_value_decides_where_there_is_one() -> None:
    corrected = row("or", 19.0, 0.70, difference=-0.1, p_value=0.01, p_adjusted=0.2)
    assert "▲" not in cells(corrected, (XAUC,), [corrected])
    assert lead(corrected["against"]["xauc"], 2) == (
        "-0.10 (95 % CI -0.10 to +0.30, p = 0.200, not significant)"
    )
    assert adjusted([*ROWS, corrected])
    assert not adjusted(ROWS)


def test_a_difference_is_significant_below_five_percent() -> None:
    paired: dict[str, Any] = {"difference": 0.1, "ci": [0.0, 0.2]}
    assert lead(paired | {"p_value": 0.049}).endswith("p = 0.049, significant)")
    assert lead(paired | {"p_value": 0.05}).endswith("p = 0.050, not significant)")


def test_rows_are_ranked_by_what_is_better() -> None:
    assert [row["method"] for row in ranked(ROWS, MAE)] == ["or", "lda", "vr"]
    assert [row["method"] for row in ranked(ROWS, XAUC)] == ["or", "d2q", "lda", "vr"]


def test_numbers_have_fixed_digits_and_a_dash_where_they_are_undefined() -> None:
    assert number(1234.5, 1, ",") == "1,234.5"
    assert number(0.5, 2, "+") == "+0.50"
    assert number(None) == interval(None) == estimate(None, None) == "–"
    assert interval({"mean": 0.57314, "std": 0.0034}) == "0.5731 ± 0.0034"
    assert interval({"mean": 0.57314, "std": None}, 2) == "0.57"
    assert estimate(0.083, [0.073, 0.093], form="+") == "+0.083 (+0.073 to +0.093)"


def test_a_variant_names_what_it_changes() -> None:
    variant = {"method": "or", "changes": {"lda": {"rank": 30.0}, "loop": {"epochs": 8}}}
    assert changes(variant) == "method=or, loop.epochs=8, lda.rank=30.0"
    assert changes({"method": "lda", "changes": {}}) == ""


# --- plots


def test_no_name_covers_another_or_leaves_the_picture() -> None:
    points = np.random.default_rng(0).uniform(0, [600, 400], size=(30, 2))
    half = np.tile([30.0, 7.0], (30, 1))
    spots = free_spots(points, half, np.array([600.0, 400.0]))
    assert (spots - half >= 0).all()
    assert (spots + half <= [600, 400]).all()
    distance = np.abs(spots[:, None] - spots[None])
    covered = (distance < 2 * half[0] - 1e-9).all(axis=-1) & ~np.eye(30, dtype=bool)
    assert not covered.any()
    assert np.abs(spots - points).max() < 150


def test_labels_are_drawn_as_heat_maps(tmp_path: Path) -> None:
    axis = [0.0, 10.0, 20.0]
    heat_maps(tmp_path / "labels.png", {"wt": (axis, axis, [[0.0, 0.5, 1.0]] * 3)}, "label", ("d", "w"))
    assert (tmp_path / "labels.png").stat().st_size > 5000
