"""A recipe changed from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import BadInput
from training.train.chosen_config import chosen_config
from training.train.recipes import kuairand_objectives, kuairand_pure, smoke


def test_nothing_chosen_is_the_recipe() -> None:
    assert chosen_config("kuairand_objectives") == kuairand_objectives()


def test_later_changes_win(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"test_days": 3, "loop": {"epochs": 5, "batch_size": 64}}))
    config = chosen_config(
        "smoke",
        seed=7,
        test_days=2,
        file=file,
        assignments=["loop.epochs=6", "learner=one_step", "fusion_grid=[0.5, 1]", "objectives.weight=0.2"],
    )
    assert (config.seed, config.test_days, config.learner) == (7, 3, "one_step")
    assert (config.loop.epochs, config.loop.batch_size) == (6, 64)
    assert config.loop.sequence_length == smoke().loop.sequence_length
    assert config.fusion_grid == (0.5, 1.0)
    assert config.objectives is not None
    assert config.objectives.weight == 0.2


def test_a_whole_config_of_a_run_may_be_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(kuairand_pure().model_dump_json())
    assert chosen_config("smoke", file=file) == kuairand_pure()


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("loop.epoch=6", r"the recipe 'smoke' has no `loop.epoch`; near it are loop.epochs"),
        ("epochs=6", r"has no `epochs`; near it are .*loop.epochs"),
        ("lop.epochs=6", r"has no `lop`; near it are .*loop"),
        ("loop.epochs=six", r"`loop.epochs` of the recipe 'smoke': Input should be a valid integer.*'six'"),
        ("loop.epochs=0", "`loop.epochs`.*greater than 0"),
        ("loop.epochs", "NAME=VALUE, such as loop.epochs=6, found 'loop.epochs'"),
        ("objectives.tua=1", r"has no `objectives.tua`; near it are .*objectives.tau"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_near(assignment: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        chosen_config("smoke", assignments=[assignment])


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[1]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadInput, match="does not hold a config as JSON"):
            chosen_config("smoke", file=tmp_path / "config.json")


def test_a_wrong_recipe_lists_them() -> None:
    with pytest.raises(BadInput, match="no recipe 'any'; there are any_log, "):
        chosen_config("any")
