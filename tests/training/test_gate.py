"""No version answers before it meets what is required of it, unless that is forced."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import BadInput
from models.manifest import Manifest
from models.runtime import Bundle
from models.store import BundleStore
from tests.conftest import ROOT, run_command, run_ok
from training.gate import DEFAULT, Expectation, Requirements, check_requirements, count_behaviours

RELEASED = BundleStore(ROOT / "models" / "bundles")
VERSION = RELEASED.current()
FOLDER = RELEASED.path(VERSION)
ACTIVE = "20200101-00000000"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.read(FOLDER)


def changed(manifest: Manifest, version: str = VERSION, **metrics: float) -> Manifest:
    """The manifest with other figures of its evaluation."""
    assert manifest.evaluation is not None
    evaluation = manifest.evaluation.model_copy(
        update={"metrics": {**manifest.evaluation.metrics, **metrics}}
    )
    return manifest.model_copy(update={"version": version, "evaluation": evaluation})


def figure(manifest: Manifest, metric: str) -> float:
    assert manifest.evaluation is not None
    return float(manifest.evaluation.metrics[metric] or 0.0)


def required(folder: Path, **content: Any) -> Path:
    path = folder / "requirements.json"
    path.write_text(json.dumps(content))
    return path


def only(requirements: Path | Requirements, active: Manifest | None = None) -> Expectation:
    """What became of the one requirement that a file has, of the released bundle."""
    if isinstance(requirements, Path):
        requirements = Requirements.read(requirements)
    [found] = check_requirements(requirements, FOLDER, active)
    return found


# --- behaviours


def test_the_released_ranker_answers_feedback_as_it_is_meant() -> None:
    counted = count_behaviours(Bundle.load(FOLDER))
    assert counted["gains_after_hate"] == 0
    assert counted["gains_after_skip"] < 0.02
    assert counted["gains_after_whole_view"] > 0.9
    assert counted["gains_after_view_and_hate"] < 0.02
    assert counted["loses_by_more_watch"] == counted["loses_by_replay"] == 0
    assert counted["longer_gets_more_seconds"] > 0.9
    assert set(Requirements.read(DEFAULT).behaviours) == set(counted), "those that ship name every behaviour"


def test_a_score_that_is_turned_round_is_found_out_and_promoted_by_force_alone(tmp_path: Path) -> None:
    bundles = tmp_path / "bundles"
    shutil.copytree(FOLDER, bundles / VERSION)
    path = bundles / VERSION / "manifest.json"
    content = json.loads(path.read_text())
    content["weights"] = {"watch_time": -1.0}
    path.write_text(json.dumps(content))
    file = required(tmp_path, behaviours={"gains_after_hate": {"most": 0.0}, "longer_gets_more_seconds": {}})

    refused = run_command("promote", VERSION, "--bundles", bundles, "--require", file)
    assert refused.returncode == 2
    assert "| candidates that gain by a hate of their author | none | 100.0% | **no** |" in refused.stdout
    assert "1 requirement is not met" in refused.stderr
    assert not (bundles / "CURRENT").exists()

    forced = run_ok("promote", VERSION, "--bundles", bundles, "--require", file, "--force")
    assert "--force: promoted although 1 requirement is not met" in forced
    assert BundleStore(bundles).current() == VERSION


# --- figures of the evaluation


@pytest.mark.parametrize(
    ("metric", "factor", "is_met"),
    [("mae_s", 0.99, True), ("mae_s", 0.9, False), ("xauc", 1.01, True), ("xauc", 1.1, False)],
)
def test_a_figure_may_be_worse_by_the_tolerance_alone(
    manifest: Manifest, metric: str, factor: float, is_met: bool
) -> None:
    better = changed(manifest, ACTIVE, **{metric: factor * figure(manifest, metric)})
    found = only(Requirements(not_worse_by={metric: 0.02}), better)
    assert found.is_met == is_met
    assert f"worse than {ACTIVE}" in found.found


def test_an_error_is_taken_as_a_share_of_a_constants_on_the_same_days(manifest: Manifest) -> None:
    easier = changed(manifest, ACTIVE, mae_s=figure(manifest, "mae_s") / 2)
    assert easier.evaluation is not None
    median = easier.evaluation.baselines["median"]
    baselines = {"median": {**median, "mae_s": (median["mae_s"] or 0.0) / 2}}
    evaluation = easier.evaluation.model_copy(update={"baselines": baselines})
    easier = easier.model_copy(update={"evaluation": evaluation})
    assert only(Requirements(not_worse_by={"mae_s": 0.0}), easier).is_met


def test_versions_of_other_data_sets_are_not_compared(manifest: Manifest) -> None:
    other = changed(manifest, ACTIVE, xauc=0.99)
    training = other.training.model_copy(update={"dataset": "own"})
    found = only(Requirements(not_worse_by={"xauc": 0.0}), other.model_copy(update={"training": training}))
    assert (found.is_met, found.found) == (True, f"{ACTIVE} was fitted on own")
    assert only(Requirements(not_worse_by={"xauc": 0.0})).found == "no other version is active"


def test_an_evaluation_on_the_same_days_takes_the_place_of_the_active_versions_own(
    manifest: Manifest, tmp_path: Path
) -> None:
    assert manifest.evaluation is not None
    days = {"from_ms": manifest.evaluation.from_ms, "to_ms": manifest.evaluation.to_ms, "tab": None}
    evaluated = {
        **manifest.evaluation.metrics,
        "xauc": figure(manifest, "xauc") / 2,
        "baselines": manifest.evaluation.baselines,
        "evaluated": ACTIVE,
        "window": days,
    }
    active, file = changed(manifest, ACTIVE, xauc=0.99), tmp_path / "active.json"

    def found(**other: Any) -> Expectation:
        file.write_text(json.dumps(evaluated | other))
        return only(Requirements(not_worse_by={"xauc": 0.0}, active_evaluation=file), active)

    assert (found().is_met, found().found) == (True, f"100.0% better than {ACTIVE}")
    for other in ({"evaluated": VERSION}, {"window": days | {"tab": "1"}}, {"window": days | {"from_ms": 0}}):
        assert (found(**other).is_met, "on this version's test days" in found(**other).found) == (False, True)


# --- an estimate, an experiment


def estimated(manifest: Manifest, low: float, **other: Any) -> dict[str, Any]:
    row = {"method": "DR", "difference": low + 1, "difference_interval": [low, low + 2]}
    made = {"bundle": VERSION, "weights": manifest.weights, "reward": "watch_time_s", "method": "DR"}
    return {**made, "refused": None, "estimates": [row], **other}


@pytest.mark.parametrize(
    ("low", "other", "is_met", "found"),
    [
        (0.5, {}, True, "+1.5 (+0.5 to +2.5), DR"),
        (-0.5, {}, False, "+0.5 (-0.5 to +1.5), DR"),
        (0.5, {"refused": "too little overlap"}, False, "refused: too little overlap"),
        (0.5, {"bundle": ACTIVE}, False, f"it is of {ACTIVE}"),
    ],
)
def test_an_estimate_must_be_of_the_version_and_above_the_log(
    tmp_path: Path, manifest: Manifest, low: float, other: dict[str, Any], is_met: bool, found: str
) -> None:
    (tmp_path / "estimate.json").write_text(json.dumps(estimated(manifest, low, **other)))
    expectation = only(required(tmp_path, estimate={"file": "estimate.json"}))
    assert expectation.is_met == is_met
    assert expectation.found.startswith(found)


def reported(manifest: Manifest, low: float, **other: Any) -> dict[str, Any]:
    arms = [
        {"arm": "old", "rankers": [{"version": ACTIVE, "weights": {"watch_time": 1.0}}]},
        {"arm": "new", "rankers": [{"version": VERSION, "weights": manifest.weights}]},
    ]
    figures = {"relative": low + 0.02, "always_valid_relative_interval": [low, low + 0.04]}
    made: dict[str, Any] = {"control": "old", "arms": arms, "sample_ratio_flagged": False, "guardrails": []}
    return {**made, "metrics": {"watch_time_s": {"old": {}, "new": figures}}, **other}


@pytest.mark.parametrize(
    ("low", "other", "is_met", "found"),
    [
        (0.01, {}, True, "+3.0% (+1.0% to +5.0%)"),
        (-0.01, {}, False, "+1.0% (-1.0% to +3.0%)"),
        (0.01, {"control": "new"}, False, "no arm beside the control was ranked by"),
        (0.01, {"sample_ratio_flagged": True}, False, "the arms are not as large"),
        (
            0.01,
            {"guardrails": [{"metric": "hate", "arm": "new", "verdict": "violated"}]},
            False,
            "guardrail hate is violated",
        ),
    ],
)
def test_an_experiment_must_have_found_the_versions_arm_better_and_harmless(
    tmp_path: Path, manifest: Manifest, low: float, other: dict[str, Any], is_met: bool, found: str
) -> None:
    (tmp_path / "report.json").write_text(json.dumps(reported(manifest, low, **other)))
    expectation = only(required(tmp_path, experiment={"file": "report.json"}))
    assert expectation.is_met == is_met
    assert expectation.found.startswith(found)


# --- files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"not_worse_by": {"ds@10": 0.1}}, "neither more nor less is better"),
        ({"behaviours": {"gains": {"most": 0.1}}}, "gains_after_hate"),
        ({"behaviours": {"gains_after_hate": {"most": 1.5}}}, "less than or equal to 1"),
        ({"metrics": {}}, "Extra inputs"),
    ],
)
def test_a_file_that_holds_no_requirements_is_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        Requirements.read(required(tmp_path, **content))


def test_a_file_that_another_command_wrote_is_no_estimate(tmp_path: Path) -> None:
    (tmp_path / "estimate.json").write_text('{"kind": "experiment"}')
    with pytest.raises(BadInput, match="is not what `estimate --json` writes"):
        only(required(tmp_path, estimate={"file": "estimate.json"}))
    with pytest.raises(BadInput, match="cannot be read"):
        only(required(tmp_path, experiment={"file": "nowhere.json"}))


def test_requirements_are_checked_without_the_training_stack() -> None:
    code = "import sys, training.gate; print({'torch', 'polars', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "set()\n"
