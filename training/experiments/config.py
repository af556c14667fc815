"""What experiments are configured by: seeds and windows, the methods of a table, and files that hold both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import NonNegativeInt, PositiveInt, ValidationError

from models.errors import BadInput
from training.config import Config, describe_first_error, merge_fields


class ExperimentConfig(Config):
    """Everything that decides the figures of an experiment besides the log."""

    seed: NonNegativeInt = 0
    """The first seed; the others follow it."""
    seeds: PositiveInt = 5
    """Fits of each method."""
    ablation_seeds: PositiveInt | None = None
    """Fits of each ablation, where that is fewer: ablations explain the table and decide nothing."""
    test_days: PositiveInt = 2
    """The last days of the log, which the table reports. Read once."""
    stop_days: PositiveInt = 1
    """The days before them, which stop fits early."""
    min_count: PositiveInt = 2
    """Ids on fewer exposures share the unknown index."""
    resamples: PositiveInt = 2000
    """Resamples of the paired bootstrap over users and seeds."""

    def seeds_for(self, method: MethodSpec) -> range:
        """Return the seeds that a method is fitted with."""
        fits = self.seeds
        if method.ablation and self.ablation_seeds is not None:
            fits = min(fits, self.ablation_seeds)
        return range(self.seed, self.seed + (1 if method.constant else fits))


@dataclass(frozen=True)
class MethodSpec:
    """One row of a table."""

    name: str
    """As in the table and on the command line."""
    description: str
    """For readers of the table."""
    ablation: bool = False
    """Whether it is the reference method with one part removed."""
    paper: bool = False
    """Whether the reference method's paper compares with it."""
    constant: bool = False
    """Whether every seed gives the same predictions."""
    fit: str = ""
    """The fit it is read off, where that has not its name: several methods may share one."""

    @property
    def fit_name(self) -> str:
        """What its jobs are called by."""
        return self.fit or self.name


C = TypeVar("C", bound=Config)
M = TypeVar("M", bound=MethodSpec)


def load_config(kind: type[C], path: Path | None, options: Mapping[str, Any]) -> C:
    """Read a config from a file, if there is one, and set options over it.

    Args:
        kind: the class of the config.
        path: JSON of the config, or a report that contains it as `config`.
        options: values by field; `None` leaves a field as it is, and so does a part of a config all fields of
            that part that it does not name.

    Raises:
        BadInput: the file is no JSON, a field is unknown, or a value breaks its rule.
    """
    try:
        content = {} if path is None else json.loads(path.read_text())
        fields = content.get("config", content) if isinstance(content, dict) else content
        chosen = {name: value for name, value in options.items() if value is not None}
        if not isinstance(fields, dict):
            raise TypeError(f"it is a {type(fields).__name__}")
        return kind.model_validate(merge_fields(fields, chosen))
    except (OSError, TypeError, json.JSONDecodeError) as e:
        raise BadInput(f"{path} does not hold a config as JSON: {e}.") from e
    except ValidationError as e:
        raise BadInput(describe_first_error(e, "the comparison")) from e


def select_methods(methods: Sequence[M], names: str | None, *, ablations: bool | None) -> tuple[M, ...]:
    """Return the methods that a command names, in the order of `methods`.

    Args:
        methods: all methods of the experiment.
        names: separated by commas; `None` selects all that are no ablation.
        ablations: whether to add the ablations; `None` adds them only when no name is given.

    Raises:
        BadInput: a name that no method has.
    """
    chosen = {name.strip() for name in (names or "").split(",") if name.strip()}
    unknown = sorted(chosen - {method.name for method in methods})
    if names is not None and (unknown or not chosen):
        problem = f"there is no method {unknown[0]!r}" if unknown else "--methods names nothing"
        raise BadInput(f"{problem}; there are {', '.join(method.name for method in methods)}.")
    if ablations is None:
        ablations = names is None
    return tuple(
        method
        for method in methods
        if method.name in chosen or (ablations if method.ablation else names is None)
    )
