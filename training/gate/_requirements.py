"""Expectations that a bundle must meet before it may answer, as a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import BadInput

DEFAULT: Final = Path("default")
"""Instead of a file: the requirements that ship."""
_SHIPPED: Final = Path(__file__).with_name("default.json")

LOWER_IS_BETTER: Final = ("mae_", "rmse_", "crps_", "pinball_", "ece_")
HIGHER_IS_BETTER: Final = ("xauc", "gauc", "auc", "nwtg@", "neg@")
"""Beginnings of the metrics that one version can be worse in than another."""

BEHAVIOURS: Final = {
    "gains_after_hate": "candidates that gain by a hate of their author",
    "gains_after_skip": "candidates that gain by a skip",
    "gains_after_whole_view": "candidates that gain by a whole view",
    "gains_after_view_and_hate": "candidates that gain by a whole view and a later hate",
    "loses_by_more_watch": "candidates that lose by more of their author watched",
    "loses_by_replay": "candidates that lose by a replay of their author",
    "longer_gets_more_seconds": "candidates expected to be watched longer if twice as long",
}
"""What `count_behaviours` counts, in words."""

Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bounds(_Part):
    """Between what a share must lie, inclusive."""

    least: Share = 0.0
    most: Share = 1.0


class EstimateRequirement(_Part):
    """What `estimate --json` must have found for the bundle, with its own weights."""

    file: Path
    """Relative to the file of requirements."""
    least_difference: float = 0.0
    """Lower end of the interval of the difference to what the log has earned, in the reward's unit."""


class ExperimentRequirement(_Part):
    """What `experiment` must have found for the arm that the bundle has answered."""

    file: Path
    """Its `report.json`, relative to the file of requirements."""
    metric: str = "watch_time_s"
    least_relative: float = 0.0
    """Lower end of the always-valid interval of the relative difference to the control."""


class Requirements(_Part):
    """Expectations of a bundle. What is left out is not asked for."""

    not_worse_by: dict[str, Annotated[float, Field(ge=0)]] = {}
    """By metric of the evaluation: the share of the active version's by which it may be worse."""
    active_evaluation: Path | None = None
    """What `evaluate --bundle ACTIVE --json` found on the bundle's test days, relative to the file of
    requirements. Without it, the active version's figures are those of its own test days."""
    behaviours: dict[str, Bounds] = {}
    """By name in `BEHAVIOURS`: the share of drawn requests."""
    estimate: EstimateRequirement | None = None
    experiment: ExperimentRequirement | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> Requirements:
        for name in self.not_worse_by:
            if not name.startswith((*LOWER_IS_BETTER, *HIGHER_IS_BETTER)):
                raise ValueError(f"`not_worse_by` names {name!r}, of which neither more nor less is better")
        if unknown := sorted(set(self.behaviours) - set(BEHAVIOURS)):
            raise ValueError(f"`behaviours` names {unknown[0]!r}; there are {', '.join(BEHAVIOURS)}")
        return self

    @classmethod
    def read(cls, path: Path) -> Requirements:
        """Read a file of requirements, or those that `DEFAULT` stands for.

        Raises:
            BadInput: it cannot be read, or is not one.
        """
        path = _SHIPPED if path == DEFAULT else path
        try:
            requirements = cls.model_validate_json(path.read_bytes())
        except OSError as e:
            raise BadInput(f"{path} cannot be read: {e.strerror}. Name a file of requirements.") from None
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise BadInput(f"{path} holds no requirements: {where}: {first['msg']}.") from None
        located: dict[str, object] = {
            name: part.model_copy(update={"file": path.parent / part.file})
            for name in ("estimate", "experiment")
            if (part := getattr(requirements, name)) is not None
        }
        if requirements.active_evaluation is not None:
            located["active_evaluation"] = path.parent / requirements.active_evaluation
        return requirements.model_copy(update=located)
