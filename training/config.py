"""The base of every training config, and how one is changed by names and values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import BadInput


class Config(BaseModel):
    """Immutable hyperparameters; unknown names are errors. The docstring under a field gives its meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=Config)


def merged(config: C, *changes: Mapping[str, Any]) -> C:
    """Return a config with nested changes, the last first.

    Raises:
        ValidationError: a field does not exist, or a value breaks its rule.
    """
    content: Any = config.model_dump(mode="json")
    for change in changes:
        content = merge_fields(content, change)
    return type(config).model_validate(content)


def override(config: C, *changes: Mapping[str, Any], owner: str) -> C:
    """Return a config with nested changes, the last first, as `merged`.

    Args:
        config: what is changed.
        changes: values by field, nested as the config is.
        owner: whose config it is, for the message.

    Raises:
        BadInput: a field does not exist, or a value breaks its rule. Fields of like names are listed.
    """
    try:
        return merged(config, *changes)
    except ValidationError as e:
        first = e.errors()[0]
        if first["type"] != "extra_forbidden":
            raise BadInput(describe_first_error(e, owner)) from e
        wrong = ".".join(map(str, first["loc"]))
        near = ", ".join(nearest_fields(type(config), wrong))
        raise BadInput(f"{owner} has no `{wrong}`; near it are {near}.") from e


def describe_first_error(error: ValidationError, owner: str) -> str:
    """Return the first error of a config in one line: the field, the rule, and the value."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"])) or "config"
    return f"`{field}` of {owner}: {first['msg']}, found {first['input']!r}."


def nearest_fields(kind: type[Config], name: str, count: int = 4) -> list[str]:
    """Return the dotted names of fields most like `name`: of the same last part first, then by spelling."""
    last, names = name.rpartition(".")[2], list(field_names(kind))
    same = [field for field in names if field.rpartition(".")[2] == last]
    spelled = difflib.get_close_matches(name, names, count, cutoff=0.0)
    return list(dict.fromkeys([*same, *spelled]))[:count]


def field_names(kind: type[BaseModel]) -> Iterator[str]:
    """Yield the names of a config's fields, those of nested configs after a dot."""
    for name, field in kind.model_fields.items():
        yield name
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Config):
                yield from (f"{name}.{nested}" for nested in field_names(part))


def merge_fields(content: Any, changes: Any) -> Any:
    """Return nested values by field with some of them changed; what is no mapping is replaced."""
    if not isinstance(content, dict) or not isinstance(changes, Mapping):
        return changes
    return content | {name: merge_fields(content.get(name), value) for name, value in changes.items()}
