"""The config of a run: a recipe, changed by a file and by assignments of the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from models.errors import BadInput
from training.config import override
from training.train import recipes
from training.train.run_config import RunConfig


def recipe_config(recipe: str) -> RunConfig:
    """Return the config of a recipe.

    Raises:
        BadInput: there is no such recipe.
    """
    if recipe not in recipes.__all__:
        raise BadInput(f"there is no recipe {recipe!r}; there are {', '.join(recipes.__all__)}.")
    config: RunConfig = getattr(recipes, recipe)()
    return config


def chosen_config(
    recipe: str,
    *,
    seed: int = 0,
    test_days: int | None = None,
    device: str | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> RunConfig:
    """Return the config of a recipe with what a command changes; later ones win.

    Args:
        recipe: its name.
        seed: of the run.
        test_days: the last days; `None` leaves those of the recipe.
        device: where the ranker's steps are computed; `None` leaves that of the recipe.
        file: JSON of the fields to change, nested as the config is.
        assignments: `name=value` each, names of nested fields with dots, values as JSON or as plain text.

    Raises:
        BadInput: there is no such recipe or field, a value breaks its rule, or the file is no JSON object.
    """
    config = recipe_config(recipe)
    first: dict[str, Any] = {"seed": seed}
    first |= {} if test_days is None else {"test_days": test_days}
    first |= {} if device is None else {"loop": {"device": device}}
    config = override(config, first, {} if file is None else _read(file), owner=f"the recipe {recipe!r}")
    return override(config, *map(_assignment, assignments), owner=f"the recipe {recipe!r}")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as e:
        raise BadInput(f"{file} does not hold a config as JSON: {e}.") from e
    if not isinstance(content, dict):
        raise BadInput(f"{file} does not hold a config as JSON: it is a {type(content).__name__}.")
    return content


def _assignment(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise BadInput(f"--set must be NAME=VALUE, such as loop.epochs=6, found {text!r}.")
    try:
        parsed: Any = json.loads(value)
    except ValueError:
        parsed = value
    nested: dict[str, Any] = reduce(lambda inner, part: {part: inner}, reversed(name.split(".")), parsed)
    return nested
