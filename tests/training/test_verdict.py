"""What a fit is worth beside simple predictors, in words, and what may not be promoted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.arrays import F32, I64
from models.errors import BadInput
from models.manifest import Comparison
from models.store import BundleStore
from tests.conftest import run_command, run_ok
from training.data import Interactions, SyntheticConfig, simulate_log
from training.evaluation.comparisons import LEAST_USERS, compare_with_baselines
from training.evaluation.predict import Outputs
from training.export.promotion import unmet_by_default
from training.verdict import refuse_worse_than_constant, verdict


@pytest.fixture(scope="module")
def window() -> tuple[Interactions, I64, I64]:
    """A log, its test rows and those before."""
    dataset = simulate_log(SyntheticConfig(users=80, videos=100, exposures=2000, days=4), seed=0).dataset()
    log = dataset.interactions(dataset.vocabulary())
    first, last = int(log.timestamp_ms.min()), int(log.timestamp_ms.max())
    split = first + (last - first) * 3 // 4
    return log, log.rows_between(split, last + 1), log.rows_between(0, split)


def outcomes(
    window: tuple[Interactions, I64, I64], seconds: F32, trees_s: F32 | None = None
) -> dict[str, str]:
    found = compare_with_baselines(*window, Outputs(seconds, {}), trees_s)
    return {f"{each.baseline} {each.figure}": each.outcome for each in found}


def test_what_was_watched_is_better_than_every_baseline(window: tuple[Interactions, I64, I64]) -> None:
    log, rows, before = window
    watched = log.watch_time_s[rows]
    assert set(outcomes(window, watched).values()) == {"better"}
    assert set(outcomes((log, rows, before), watched, watched.mean() - watched).values()) == {"better"}


def test_the_contrary_of_what_was_watched_is_worse(window: tuple[Interactions, I64, I64]) -> None:
    log, rows, _ = window
    contrary = log.watch_time_s[rows].max() - log.watch_time_s[rows]
    assert set(outcomes(window, contrary, log.watch_time_s[rows]).values()) == {"worse"}


def test_a_baseline_is_undecided_against_itself(window: tuple[Interactions, I64, I64]) -> None:
    log, rows, before = window
    median = np.full(len(rows), np.median(log.watch_time_s[before]), np.float32)
    found = outcomes(window, median, median)
    assert {name for name, outcome in found.items() if outcome == "undecided"} >= {
        "median mae_s",
        "trees mae_s",
        "trees xauc",
    }


def test_users_too_few_to_resample_decide_nothing(window: tuple[Interactions, I64, I64]) -> None:
    log, rows, before = window
    few = rows[log.user[rows] < LEAST_USERS - 1]
    assert set(outcomes((log, few, before), log.watch_time_s[few]).values()) == {"undecided"}


def compared(baseline: str, figure: str, ranker: float, simple: float, outcome: str) -> Comparison:
    return Comparison.model_validate(
        {"baseline": baseline, "figure": figure, "ranker": ranker, "simple": simple, "outcome": outcome}
    )


def test_a_verdict_says_what_is_better_worse_and_undecided() -> None:
    assert verdict(
        [
            compared("median", "mae_s", 6.5, 7.25, "better"),
            compared("mean", "rmse_s", 12.0, 13.0, "better"),
            compared("popularity", "xauc", 0.61, 0.6, "undecided"),
            compared("trees", "mae_s", 6.5, 6.25, "worse"),
            compared("trees", "xauc", 0.61, 0.62, "worse"),
        ]
    ) == (
        "On the test days the predicted watch time is better than the median (MAE 6.50 against 7.25 s), "
        "the mean (RMSE 12.00 against 13.00 s); worse than boosted trees (MAE 6.50 against 6.25 s, XAUC "
        "0.6100 against 0.6200); not decided against the mean of each video (XAUC 0.6100 against 0.6000)."
    )
    assert "not compared" in verdict([])


def test_only_what_is_worse_than_a_constant_is_refused() -> None:
    refuse_worse_than_constant([])
    refuse_worse_than_constant([compared("trees", "mae_s", 2.0, 1.0, "worse")])
    refuse_worse_than_constant([compared("median", "mae_s", 2.0, 1.9, "undecided")])
    with pytest.raises(BadInput, match=r"worse than the median \(MAE 2.00 against 1.00 s\).*--force"):
        refuse_worse_than_constant([compared("median", "mae_s", 2.0, 1.0, "worse")])


@pytest.mark.slow
def test_a_bundle_that_is_worse_than_a_constant_is_promoted_by_force_alone(
    smoke_bundles: Path, tmp_path: Path
) -> None:
    root = tmp_path / "bundles"
    version = BundleStore(smoke_bundles).current()
    shutil.copytree(smoke_bundles / version, root / version)
    path = root / version / "manifest.json"
    manifest = json.loads(path.read_text())
    worse = compared("mean", "rmse_s", 2.0, 1.0, "worse")
    manifest["evaluation"]["comparisons"] = [worse.model_dump()]
    path.write_text(json.dumps(manifest))
    refused = run_command("promote", version, "--bundles", root)
    assert refused.returncode == 2
    assert "worse than the mean" in refused.stderr
    assert not (root / "CURRENT").exists()
    run_ok("promote", version, "--bundles", root, "--force")
    assert BundleStore(root).current() == version
    assert "worse than the mean (RMSE 2.00 against 1.00 s)" in run_ok("card", "--bundles", root)


def test_a_promotion_without_requirements_says_which_are_not_met() -> None:
    warning = unmet_by_default("20260101-00000001", ["`mae_s`", "candidates that gain by a hate"])
    assert "although 2 requirements are not met (`mae_s`; candidates that gain by a hate)" in warning
    assert "`--require default`" in warning
