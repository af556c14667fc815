"""Which rows of a table a command asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from models.errors import BadInput


class Listed(Protocol):
    """A method of any comparison."""

    @property
    def name(self) -> str:
        """As it is called in the table, and on the command line."""

    @property
    def ablation(self) -> bool:
        """Whether it is another method with a knob turned."""


M = TypeVar("M", bound=Listed)


def pick(methods: Sequence[M], names: str | None, *, ablations: bool | None) -> tuple[M, ...]:
    """The methods that a command asks for, in the order of `methods`.

    Args:
        methods: all there are.
        names: separated by commas; `None` picks all that are no ablation.
        ablations: whether the ablation rows come, too; `None`: only when nothing was named.

    Raises:
        BadInput: a name that no method has.
    """
    asked = {name.strip() for name in (names or "").split(",") if name.strip()}
    unknown = sorted(asked - {method.name for method in methods})
    if names is not None and (unknown or not asked):
        what = f"there is no method {unknown[0]!r}" if unknown else "--methods names nothing"
        raise BadInput(f"{what}; there are {', '.join(method.name for method in methods)}.")
    wanted = names is None if ablations is None else ablations
    return tuple(
        method
        for method in methods
        if (method.ablation and wanted)
        or (not method.ablation and names is None)
        or (names is not None and method.name in asked)
    )
