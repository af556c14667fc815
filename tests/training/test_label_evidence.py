"""What a fit records of its labels, and what `export` refuses: labels that were not learned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.arrays import I64
from models.errors import BadInput
from models.manifest import LabelEvidence, LearnedLabels, Manifest, Margin
from models.store import BundleStore
from tests.conftest import run_command, run_ok
from training.data import Interactions, SyntheticConfig, day_numbers, simulate_log
from training.export.learned_gate import check_learned
from training.labelcraft import RELATIVE_OBJECTIVES
from training.labelcraft import evidence as evidence_module
from training.labelcraft.closed_form import (
    ClosedFormConfig,
    Composite,
    LabelSurface,
    LearnedSurface,
    learn_surface,
    ridge_windows,
)
from training.labelcraft.evidence import LEAST_DISTANCE, compare_with_twins

SMALL = ClosedFormConfig(watch_knots=9, duration_knots=5, k=3, steps=25, ridge=300.0, redraws=1)
SIMULATED = SyntheticConfig(users=250, videos=200, exposures=12_000, days=6, policy=0.2)


@cache
def planted() -> tuple[Interactions, I64]:
    dataset = simulate_log(SIMULATED, seed=0).dataset()
    log = dataset.interactions(dataset.vocabulary())
    return log, day_numbers(log.timestamp_ms, dataset.info.utc_offset_hours)


@cache
def evidence(**changes: Any) -> LabelEvidence:
    log, day = planted()
    found = compare_with_twins(log, day, SMALL.model_copy(update=changes))
    assert found is not None
    return found


def record(evidence: LabelEvidence | None, **changes: Any) -> LearnedLabels:
    given = {"learner": "closed_form", "gradient": "exact", "steps": 25, "distance": 0.5, **changes}
    return LearnedLabels(evidence=evidence, **given)


def test_learned_labels_serve_later_days_better_than_frozen_and_shuffled_ones() -> None:
    """Fails when nothing is learned, and when the gradient is that of other rows."""
    found = evidence()
    assert found.over_frozen.low > 0
    assert found.over_shuffled.low > 0
    assert found.composite["learned"] > max(found.composite["frozen"], found.composite["shuffled"])
    assert check_learned(record(found), allow=False) == record(found)


@pytest.mark.parametrize(
    ("changes", "twin"), [({"steps": 0}, "frozen"), ({"gradient": "shuffled"}, "shuffled")]
)
def test_labels_that_were_not_learned_are_refused(changes: dict[str, Any], twin: str) -> None:
    found = record(evidence(**changes), gradient=changes.get("gradient", "exact"))
    with pytest.raises(BadInput, match=f"not shown to be learned.*{twin}.*--allow-unlearned"):
        check_learned(found, allow=False)


def test_frozen_labels_are_their_own_twin() -> None:
    assert evidence(steps=0).over_frozen == Margin(difference=0, low=0, high=0)
    assert evidence(steps=0).over_shuffled == Margin(difference=0, low=0, high=0)
    assert evidence(steps=0).halves_correlation == pytest.approx(1)


def test_the_days_that_labels_are_scored_on_change_nothing_of_what_is_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, day = planted()
    last, feedback = day >= day.max() - 1, log.feedback.copy()
    feedback[last] = np.random.default_rng(0).permutation(feedback[last])
    learned: list[Tensor] = []

    def recorded(*args: Any, **kwargs: Any) -> LearnedSurface:
        result = learn_surface(*args, **kwargs)
        learned.append(result.label_maker.table.clone())
        return result

    monkeypatch.setattr(evidence_module, "learn_surface", recorded)
    config = SMALL.model_copy(update={"steps": 2})
    for changed in (log, replace(log, feedback=feedback)):
        assert compare_with_twins(changed, day, config) is not None
    before, after = learned[: len(learned) // 2], learned[len(learned) // 2 :]
    halves = 2  # these are learned on all days
    assert len(before) == 2 + evidence_module.SHUFFLES + halves
    assert all(map(torch.equal, before[:-halves], after[:-halves]))
    assert not torch.equal(before[-1], after[-1])


def test_each_objective_has_its_value_before_and_after_and_they_make_the_composite() -> None:
    found, same = evidence(), evidence(steps=0).by_objective
    assert tuple(found.by_objective) == found.objectives
    assert any(value["learned"] > value["frozen"] for value in found.by_objective.values())
    assert all(value["learned"] == value["frozen"] for value in same.values())
    log, day = planted()
    windows = ridge_windows(log, day, LabelSurface(SMALL).fit(log), SMALL)
    deviations = Composite([w.candidates for w in windows], RELATIVE_OBJECTIVES, SMALL.k).deviations
    for twin in ("frozen", "learned"):
        parts = [value[twin] / deviations[name] for name, value in found.by_objective.items()]
        assert np.mean(parts) == pytest.approx(found.composite[twin], rel=1e-3)


def test_a_manifest_of_a_former_export_has_neither_objectives_nor_choices() -> None:
    former = record(evidence()).model_dump(exclude={"choices": True, "evidence": {"by_objective"}})
    read = LearnedLabels.model_validate(former)
    assert read.choices is None
    assert read.evidence is not None
    assert read.evidence.by_objective == {}


def test_a_log_with_one_window_has_no_later_days_and_is_refused() -> None:
    log, day = planted()
    early = np.flatnonzero(day < day.min() + 4)
    assert compare_with_twins(log.take(early), day[early], SMALL) is None
    with pytest.raises(BadInput, match="one window of days"):
        check_learned(record(None), allow=False)


def test_the_network_has_no_twin_and_is_refused_or_allowed_openly() -> None:
    one_step = record(None, learner="one_step", gradient="one_step", steps=4)
    with pytest.raises(BadInput, match="the learner has no twin"):
        check_learned(one_step, allow=False)
    allowed = check_learned(one_step, allow=True).allowed_unlearned
    assert allowed is not None
    assert "no twin" in allowed


def test_labels_that_hardly_moved_are_refused_with_how_far_they_did() -> None:
    better = Margin(difference=0.1, low=0.05, high=0.15)
    passing = LabelEvidence(
        objectives=("usage_time",),
        windows=1,
        users=2,
        composite={"learned": 1.1, "frozen": 1.0, "shuffled": 1.0},
        over_frozen=better,
        over_shuffled=better,
        halves_correlation=0.9,
    )
    assert check_learned(record(passing, distance=LEAST_DISTANCE), allow=False).allowed_unlearned is None
    with pytest.raises(BadInput, match=r"moved by 0\.010 deviations.*less than 0\.1"):
        check_learned(record(passing, distance=0.01), allow=False)


def test_a_user_is_drawn_with_all_of_their_windows() -> None:
    """Two windows of the same users are not twice as many users."""
    random = np.random.default_rng(0)
    once, user = random.normal(size=40), np.arange(40)
    (alone,) = evidence_module._margins(user, [once])
    (both,) = evidence_module._margins(np.concatenate([user, user]), [np.concatenate([once, once])])
    assert both == alone


# --- the commands


def unlearned(run: Path, tmp_path: Path) -> Path:
    """Return a copy of a run whose labels did not move."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    note = json.loads((copy / "metrics.json").read_text())
    note["learned_labels"]["distance"] = 0.01
    (copy / "metrics.json").write_text(json.dumps(note))
    return copy


def test_a_run_records_its_labels(smoke_run: Path) -> None:
    found = LearnedLabels.model_validate(
        json.loads((smoke_run / "metrics.json").read_text())["learned_labels"]
    )
    assert found.learner == "closed_form"
    assert found.distance > 0
    assert found.evidence is not None
    assert set(found.evidence.composite) == {"learned", "frozen", "shuffled"}
    assert tuple(found.evidence.by_objective) == found.evidence.objectives
    assert found.choices is not None
    assert found.choices.steps == found.steps
    assert -1 <= found.evidence.halves_correlation <= 1


@pytest.mark.slow
def test_export_refuses_unlearned_labels_says_what_was_allowed_and_may_promote(
    smoke_run: Path, tmp_path: Path
) -> None:
    run, bundles = unlearned(smoke_run, tmp_path), tmp_path / "bundles"
    refused = run_command("export", run, "--to", bundles)
    assert refused.returncode == 2
    assert "moved by 0.010 deviations" in refused.stderr
    assert not bundles.exists()
    done = run_command("export", run, "--to", bundles, "--promote", "--allow-unlearned")
    assert "| candidates that gain by a hate of their author | none |" in done.stdout
    assert "CURRENT names" in done.stdout
    (version,) = BundleStore(bundles).versions()
    assert BundleStore(bundles).current() == version
    assert (f"warning: {version} is active although" in done.stderr) == ("| **no** |" in done.stdout)
    labels = Manifest.read(bundles / version).learned_labels
    assert labels is not None
    assert labels.allowed_unlearned is not None
    assert "moved by 0.010 deviations" in labels.allowed_unlearned
    assert "**Not shown to be learned**: they moved by 0.010" in run_ok("card", "--bundles", bundles)
