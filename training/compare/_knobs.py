"""Knobs of a comparison from a file, with a command's options over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from models.errors import BadInput
from training.config import Config

C = TypeVar("C", bound=Config)


def read_knobs(kind: type[C], path: Path | None, given: dict[str, Any]) -> C:
    """Knobs of a file, if there is one, and options over them.

    Args:
        kind: of which comparison.
        path: JSON; a report holds its knobs among other things.
        given: what options say.

    Raises:
        BadInput: no JSON, an unknown knob, or a value that breaks its rule.
    """
    try:
        found = {} if path is None else json.loads(path.read_text())
        knobs = found.get("config", found) if isinstance(found, dict) else found
        return kind.model_validate(knobs | given)
    except (OSError, TypeError, json.JSONDecodeError) as e:
        raise BadInput(f"{path} does not hold knobs as JSON: {e}.") from e
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"])) or "config"
        raise BadInput(f"`{where}` of the comparison: {first['msg']}, found {first['input']!r}.") from e
