"""Figures of a window: of predicted distributions beside those of points, and of constants beside both."""

# Shape suffixes: R rows.

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.manifest import MANIFEST, Manifest
from models.store import BundleStore
from tests.training._builders import watch_log
from training.evaluation.evaluate import baselines, compute_metrics
from training.evaluation.predict import Law, Outputs, Predictions
from training.export.model_card import card

RELEASED = BundleStore(Path(__file__).parents[2] / "models" / "bundles")


def predictions(rows: int, *, law: bool) -> Predictions:
    """10 s for every row, certain or with a law round it."""
    seconds = np.full(rows, 10.0, np.float32)
    found = Law(
        np.full((rows, 2), 0.5, np.float32),
        np.tile(np.array([0.25, 0.75], np.float32), (rows, 1)),
        np.tile(np.array([5.0, 10.0, 15.0], np.float32), (rows, 1)),
        seconds,
        np.full((rows, 3), 0.1, np.float32),
    )
    outputs = Outputs(seconds, {"watch_time": seconds / np.float32(100)}, found if law else None)
    return Predictions(outputs, outputs)


def test_a_predicted_law_is_evaluated_beside_the_point() -> None:
    log = watch_log([2.0, 10.0, 20.0, 30.0], [20.0] * 4)
    rows = np.arange(4)
    plain, found = (
        compute_metrics(log, rows, predictions(4, law=law), {"watch_time": 1.0}) for law in (False, True)
    )
    assert plain.items() <= found.items()
    assert "crps_s" not in plain
    assert found["coverage_p10_p90"] == 0.25
    assert found["bias_mean_s"] == pytest.approx(10 - 15.5)
    assert found["rmse_mean_s"] == found["rmse_s"]
    some = compute_metrics(log, rows[:1], predictions(4, law=True).take(rows[:1]), {"watch_time": 1.0})
    assert some["crps_s"] == pytest.approx(5.5)  # ½ (3 + 13) - ¼ · 10


def test_the_baselines_are_constants_of_the_rows_before() -> None:
    """Short videos are watched for 1, 2 or 6 s, long ones for 10, 20 or 90 s; then comes one of each."""
    log = watch_log([1, 2, 6, 10, 20, 90, 3, 30], [10, 10, 10, 200, 200, 200, 10, 200])
    found = baselines(log, np.arange(6, 8), np.arange(6), [])
    assert found["median"]["mae_s"] == pytest.approx((5 + 22) / 2)
    assert found["median_by_duration"]["mae_s"] == pytest.approx((1 + 10) / 2)
    assert found["mean"]["rmse_s"] == pytest.approx(np.sqrt(((21.5 - 3) ** 2 + (30 - 21.5) ** 2) / 2))
    assert found["mean_by_duration"]["rmse_s"] == pytest.approx(np.sqrt((0**2 + 10**2) / 2))
    assert baselines(log, np.arange(6, 8), np.arange(0), [])["mean"] == {"rmse_s": None}


def test_the_card_has_what_the_evaluation_has(tmp_path: Path) -> None:
    version = RELEASED.current()
    folder = Path(shutil.copytree(RELEASED.path(version), tmp_path / version))
    BundleStore(tmp_path).promote(version)
    manifest = Manifest.read(folder)
    assert manifest.evaluation is not None

    def card_of(metrics: dict[str, float]) -> str:
        assert manifest.evaluation is not None
        tabs = {tab: {"mae_s": 20.7} for tab in manifest.evaluation.by_tab}
        constants = {"median": {"mae_s": 20.6}, "mean_by_duration": {"rmse_s": 43.2}}
        changes = {"metrics": metrics, "by_tab": tabs, "baselines": constants}
        evaluation = manifest.evaluation.model_copy(update=changes)
        changed = manifest.model_copy(update={"evaluation": evaluation})
        (folder / MANIFEST).write_text(changed.model_dump_json())
        return card(tmp_path)

    assert "CRPS" not in card_of({"mae_s": 20.5})
    found = card_of({"mae_s": 20.5, "crps_s": 14.66, "ece_complete": 0.0054, "rmse_mean_s": 39.7})
    assert "| CRPS, s | 14.66 | – |" in found
    assert "| calibration error of P(complete) | 0.0054 | – |" in found
    assert "| RMSE of the mean by duration of the earlier days, s | 43.20 | – |" in found
