"""`compare forgetting-ranker`: updates of the served ranker against their definition, and a report."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.ledger import Entry
from training.data import Forgotten, SyntheticConfig, simulate_log, without
from training.experiments.forgetting_ranker import experiment
from training.experiments.forgetting_ranker.config import RankerForgettingConfig
from training.experiments.forgetting_ranker.evaluator import SampledLog
from training.experiments.forgetting_ranker.influence import Change
from training.experiments.forgetting_ranker.removals import USERS, WRONG, draw_removals
from training.experiments.forgetting_ranker.row_loss import FitRows, Parameters, RowLoss
from training.train.fit import Windows, cut_windows, evaluation_boundaries, fit_for_evaluation
from training.train.fitted import Fitted
from training.train.forget import forget_in
from training.train.recipes import smoke_objectives
from training.train.run_config import RunConfig


def brief() -> RunConfig:
    recipe = smoke_objectives()
    labels = recipe.closed_form.model_copy(update={"steps": 1, "redraws": 1, "watch_knots": 5})
    anchors = recipe.lda.anchors.model_copy(update={"epochs": 1, "sequences": 32, "anchors": 4})
    return recipe.model_copy(
        update={
            "closed_form": labels,
            "lda": recipe.lda.model_copy(update={"anchors": anchors}),
            "loop": recipe.loop.model_copy(update={"epochs": 1}),
        }
    )


CONFIG = RankerForgettingConfig(run=brief(), test_days=1, min_count=1, share=0.05, curvature_rows=64)
RUN = CONFIG.recipe(0)
DATASET = simulate_log(SyntheticConfig(users=60, videos=80, exposures=1500, days=8), seed=0).dataset()


@pytest.fixture(scope="module")
def fitted() -> tuple[Fitted, Windows]:
    fit, _ = fit_for_evaluation(DATASET, RUN, lambda stage, share: None)
    return fit, cut_windows(DATASET, RUN, evaluation_boundaries(DATASET, RUN))


def change(fitted: tuple[Fitted, Windows], *entries: Entry) -> Change:
    remaining = without(DATASET, Forgotten(entries, None)) if entries else DATASET
    after = cut_windows(remaining, RUN, fitted[1].boundaries)
    tables = forget_in(*fitted, after, RUN), after
    return Change.measure(fitted, tables, CONFIG, RUN, is_network=True)


def test_the_loss_of_rows_is_the_one_that_the_ranker_is_fitted_by(fitted: tuple[Fitted, Windows]) -> None:
    rows = FitRows(*fitted, RUN)
    batch = rows.batch(np.arange(100))
    parameters = Parameters(rows.ranker, [name for name, _ in rows.ranker.named_parameters()])
    watch_time, target = batch.watch_time[:, None], batch.target[:, None]
    each = rows.ranker.losses(batch.x, batch.statistics, watch_time, target).each
    found = RowLoss(rows, batch, parameters, {})(parameters.vector_P)
    torch.testing.assert_close(found, 100 * torch.stack(each) @ rows.weights)


def test_forgetting_nothing_leaves_every_weight(fitted: tuple[Fitted, Windows]) -> None:
    nothing = change(fitted)
    update = nothing.update(1.0, CONFIG)
    assert torch.equal(update.parameters, nothing.parameters.vector_P)


def test_a_video_leaves_through_histories_too_and_the_rest_stays_bit_identical(
    fitted: tuple[Fitted, Windows],
) -> None:
    video = DATASET.log["video_id"].value_counts().sort("count", "video_id")["video_id"][-1]
    forgotten = change(fitted, Entry(video_id=video, forgotten_at_ms=0))
    assert forgotten.spillover.any()
    plain = forgotten.update(1.0, CONFIG, spillover=False)
    update = forgotten.update(1.0, CONFIG)
    assert not torch.equal(plain.parameters, update.parameters)
    reached = forgotten.forgotten + forgotten.spillover != 0
    same = update.parameters == forgotten.parameters.vector_P
    assert same[~reached].all()
    assert not same[reached].all()
    assert update.residual < 1.0


def test_half_of_what_is_drawn_is_a_control_that_is_not_fitted_on() -> None:
    drawn = draw_removals(DATASET, CONFIG, seed=1)
    wrong = drawn.each[WRONG]
    assert len(wrong.forgotten.entries) == len(wrong.control.entries)
    assert not set(wrong.forgotten.entries) & set(wrong.control.entries)
    assert drawn.complete.log["watch_time_s"].sum() == pytest.approx(DATASET.log["watch_time_s"].sum())
    users = set(drawn.fitted.log["user_id"])
    assert users.isdisjoint(entry.user_id for entry in drawn.each[USERS].control.entries)
    assert users.issuperset(entry.user_id for entry in drawn.each[USERS].forgotten.entries)


@pytest.mark.slow
def test_every_way_to_forget_has_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_removals(DATASET, CONFIG, seed=0)
    of_users = drawn._replace(each={USERS: drawn.each[USERS]})
    monkeypatch.setattr(experiment, "draw_removals", lambda *args, **options: of_users)
    log = SampledLog(DATASET, CONFIG)
    found = experiment.fit_model(log, experiment.RANKER, CONFIG, 0, lambda share: None)["readouts"]
    figures = {name: readout["figures"] for name, readout in found.items()}
    assert set(figures) == {method.name for method in experiment.METHODS if method.fit == experiment.RANKER}
    assert figures["retrain"]["times_faster/users"] == 1.0
    assert figures["tables"]["times_faster/users"] > 1.0
    assert all(one["distance_logit/users"] > 0 for name, one in figures.items() if name != "retrain")
    assert figures["network, δ = 1 n"]["residual/users"] < 1.0
