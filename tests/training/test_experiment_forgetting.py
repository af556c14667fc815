"""`compare forgetting`: updates of models of ids against their definition, and a report from a small log."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import grad

from tests.training._experiments import (
    assert_pictures,
    read_rows,
    refusal,
    run_command,
    write_json,
    write_log,
)
from training.experiments.forgetting.config import FitConfig, ForgettingConfig, InfluenceConfig
from training.experiments.forgetting.fit import fit_table
from training.experiments.forgetting.id_model import IdModel, total_loss
from training.experiments.forgetting.influence import forget_rows
from training.experiments.forgetting.light_gcn import LightGCN
from training.experiments.forgetting.matrix_factorisation import MatrixFactorisation
from training.experiments.forgetting.peers import Shards
from training.experiments.forgetting.removals import FLIPPED, ONE_USER, USERS, draw_removals
from training.experiments.forgetting.rows import Rows

USER_COUNT, VIDEO_COUNT = 40, 30
NODES = USER_COUNT + VIDEO_COUNT
FIT = FitConfig(width=4, epochs=200, batch_size=600, learning_rate=0.05, penalty=2.0)
EXACT = InfluenceConfig(damping=0.05, tolerance=1e-6)


@pytest.fixture(scope="module")
def rows() -> Rows:
    random = torch.Generator().manual_seed(0)
    user = torch.randint(USER_COUNT, (600,), generator=random)
    video = torch.randint(VIDEO_COUNT, (600,), generator=random)
    liked = torch.rand(600, generator=random) < 0.2 + 0.5 * ((user + video) % 2)
    return Rows(user, video + USER_COUNT, torch.where(liked, 1.0, -1.0))


def model_of(name: str, rows: Rows) -> IdModel:
    return MatrixFactorisation() if name == "matrix_factorisation" else LightGCN.from_rows(rows)


both_models = pytest.mark.parametrize("name", ["matrix_factorisation", "light_gcn"])


@pytest.fixture(scope="module")
def fitted(rows: Rows) -> dict[str, Tensor]:
    return {
        name: fit_table(model_of(name, rows), rows, NODES, FIT, seed=0)
        for name in ("matrix_factorisation", "light_gcn")
    }


def gradient(model: IdModel, rows: Rows, table: Tensor) -> Tensor:
    loss = partial(total_loss, model)
    found: Tensor = grad(lambda t: loss(t, rows=rows) + FIT.penalty / 2 * t.square().sum())(table)
    return found


@both_models
def test_the_update_makes_up_for_the_removal(name: str, rows: Rows, fitted: dict[str, Tensor]) -> None:
    """Over all embeddings, the remaining rows on the remaining graph have the gradient that all had."""
    model, table = model_of(name, rows), fitted[name]
    removed = torch.arange(len(rows.user)) < 20
    found = forget_rows(model, table, rows, removed, FIT.penalty, EXACT, steps=2, nodes=torch.arange(NODES))
    remaining = rows.take(~removed)
    before = gradient(model, rows, table)
    after = gradient(model.on_rows(remaining), remaining, found.table)
    untouched = gradient(model.on_rows(remaining), remaining, table)
    rest = float((after - before).norm() / (untouched - before).norm())
    assert rest < 0.05
    assert rest == pytest.approx(found.residual, abs=1e-3)


@both_models
def test_pruned_embeddings_are_bit_identical(name: str, rows: Rows, fitted: dict[str, Tensor]) -> None:
    model, table, removed = model_of(name, rows), fitted[name], rows.user == 3
    config = EXACT.model_copy(update={"quantile": 0.5})
    found = forget_rows(model, table, rows, removed, FIT.penalty, config)
    same = (found.table == table).all(1)
    assert 0 < found.nodes < NODES
    assert int((~same).sum()) == found.nodes
    assert not same[3]


@both_models
def test_forgetting_no_rows_changes_nothing(name: str, rows: Rows, fitted: dict[str, Tensor]) -> None:
    removed = torch.zeros(len(rows.user), dtype=torch.bool)
    found = forget_rows(model_of(name, rows), fitted[name], rows, removed, FIT.penalty, EXACT)
    assert torch.equal(found.table, fitted[name])


def test_nothing_of_a_user_is_left_of_a_forgotten_user(rows: Rows, fitted: dict[str, Tensor]) -> None:
    removed = rows.user == 3
    found = forget_rows(
        MatrixFactorisation(), fitted["matrix_factorisation"], rows, removed, FIT.penalty, EXACT
    )
    assert not found.table[3].any()


def test_a_part_of_the_graph_answers_as_the_whole(rows: Rows, fitted: dict[str, Tensor]) -> None:
    model, table = LightGCN.from_rows(rows), fitted["light_gcn"]
    some = rows.take(rows.user < 3)
    ends = torch.zeros(NODES, dtype=torch.bool).index_fill(0, some.edges.reshape(-1), True)
    inside = torch.nonzero(model.reached(ends))[:, 0]
    index = torch.full((NODES,), -1).index_copy(0, inside, torch.arange(len(inside)))
    part = model.within(ends, index).logits(table[inside], some.renamed(index))
    torch.testing.assert_close(part, model.logits(table, some))


def test_only_shards_with_forgotten_rows_are_fitted_again(rows: Rows) -> None:
    shards = Shards(MatrixFactorisation(), rows, NODES, 4, FIT.model_copy(update={"epochs": 1}), seed=0)
    fits = shards.without(rows.user == 5)
    assert [fit is old for fit, old in zip(fits, shards.fits, strict=True)] == [True, False, True, True]


def test_removals_are_apart_from_their_control(rows: Rows) -> None:
    config = ForgettingConfig(flipped=0.05, users=0.1)
    drawn = draw_removals(rows, config, seed=1)
    assert len(drawn.control.user) == int(drawn.removed[FLIPPED].sum()) == 30
    assert len(drawn.train.user) == 570
    assert len(torch.unique(drawn.train.user[drawn.removed[ONE_USER]])) == 1
    assert len(torch.unique(drawn.train.user[drawn.removed[USERS]])) == 4


@pytest.mark.slow
def test_the_command_writes_a_report(tmp_path: Path) -> None:
    data = write_log(tmp_path, users=60, videos=80, exposures=2000, days=8)
    fit = {"width": 4, "epochs": 2, "batch_size": 512}
    config = {
        "seeds": 2,
        "resamples": 100,
        "dampings": [1.0],
        "matrix_factorisation": {"fit": fit},
        "light_gcn": {"fit": fit},
    }
    out = tmp_path / "report"
    file = write_json(tmp_path / "config.json", config)
    options = ("--config", file, "--jobs", "1")
    run_command("compare", "forgetting", "--data", data, "--out", out, *options)
    by_name = read_rows(out)
    for model in ("MF", "LightGCN"):
        assert by_name[f"{model} retrain"]["metrics"]["times_faster"]["mean"] == 1.0
        found = by_name[f"{model} influence"]["metrics"]
        assert {"seconds", "auc", "distance", "distance_of_two_retrainings", "membership_auc"} <= set(found)
        assert found["nodes/one_user"]["mean"] < found["nodes/users"]["mean"] + 1
    assert "MF no spillover" not in by_name
    report = json.loads((out / "report.json").read_text())
    assert report["recovery"]["MF retrain"] == 1.0
    assert {row["method"] for row in report["rows"] if row["against"]}
    assert_pictures(out, {"auc.png"})
    assert "distance of two retrainings" in (out / "report.md").read_text()


def test_a_log_with_too_little_to_forget_is_refused(tmp_path: Path) -> None:
    data = write_log(tmp_path, users=20, videos=40, exposures=300, days=8)
    config = write_json(tmp_path / "config.json", {"core": 50})
    message = refusal(
        *("compare", "forgetting", "--data", data, "--out", tmp_path / "report"),
        *("--config", config, "--jobs", "1"),
    )
    assert "smaller `core`" in message
