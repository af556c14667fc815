"""The report of `check`: what was found, as JSON, as Markdown and as pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined, select_autoescape
from pydantic import BaseModel, ConfigDict

from training.check.profile import Profile, profile
from training.check.requirements import RecipeCheck, check_recipes, refused_label_makers
from training.check.warnings import warnings_of
from training.data import Dataset
from training.staging import atomic_folder

LEAST_RECIPE: Final = "any_log"
"""The recipe that asks for least of those that are worth fitting: a log that it refuses has a fault."""


class Report(BaseModel):
    """What `check` found in a log that could be read. The content of `data.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile
    faults: tuple[str, ...]
    warnings: tuple[str, ...]
    recipes: tuple[RecipeCheck, ...]
    refused_label_makers: dict[str, str]
    """By name, why."""

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Report:
        """Look at a log in memory."""
        recipes, found = check_recipes(dataset), profile(dataset)
        least = next(recipe for recipe in recipes if recipe.name == LEAST_RECIPE)
        return cls(
            profile=found,
            faults=()
            if least.refused is None
            else (f"no recipe can be fitted: {least.refused.rstrip('.')}.",),
            warnings=tuple(warnings_of(found)),
            recipes=recipes,
            refused_label_makers=refused_label_makers(dataset),
        )

    def markdown(self, pictures: Sequence[str] = ()) -> str:
        """Return the report for people.

        Args:
            pictures: names of those that lie beside it.
        """
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            undefined=StrictUndefined,
            autoescape=select_autoescape(("html",)),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"n": _number, "share": _share}

        def picture(name: str) -> str:
            return f"\n![{name}]({name}.png)" if name in pictures else ""

        text = environment.get_template("data.md.j2").render(**dict(self), picture=picture)
        return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"

    def write(self, out: Path) -> None:
        """Write `data.json`, `data.md` and the pictures into a new folder.

        Raises:
            BadInput: the folder has something in it.
        """
        # matplotlib takes half a second to import, which the text alone should not wait for.
        from training.check.pictures import draw

        with atomic_folder(out) as folder:
            (folder / "data.json").write_text(self.model_dump_json(indent=1) + "\n")
            (folder / "data.md").write_text(self.markdown(draw(folder, self.profile)))


def _number(value: int | Undefined) -> str:
    return "" if isinstance(value, Undefined) else f"{value:,}"


def _share(value: float) -> str:
    return f"{value:.1%}" if value == 0 or value >= 0.001 else f"{value:.3%}"
