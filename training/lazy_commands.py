"""Commands whose modules are imported when they are run: help and `promote` need no training stack."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib import import_module
from typing import Any, ClassVar

import typer
import typer.core
import typer.main


class LazyGroup(typer.core.TyperGroup):
    """A command group some of whose commands are imported when one of them is resolved.

    `commands` holds all of them and imports what is missing.
    """

    lazy: ClassVar[dict[str, tuple[str, str]]] = {}
    """By name, the `module:attribute` of a Typer app or a command function, and the help of its line."""

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """Every command, by name."""
        for name in self.lazy:
            self._load(name)
        return self._loaded

    @commands.setter
    def commands(self, commands: MutableMapping[str, Any]) -> None:
        self._loaded = commands

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, without importing anything."""
        return [*self._loaded, *(name for name in self.lazy if name not in self._loaded)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command as it is known: of one that is not imported yet, its name and its help."""
        if cmd_name in self._loaded or cmd_name not in self.lazy:
            return self._loaded.get(cmd_name)
        return typer.core.TyperCommand(cmd_name, help=self.lazy[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is about to run."""
        if args[0] in self.lazy:
            self._load(args[0])
        return super().resolve_command(ctx, args)

    def _load(self, name: str) -> None:
        if name not in self._loaded:
            module, _, attribute = self.lazy[name][0].partition(":")
            target = getattr(import_module(module), attribute)
            if not isinstance(target, typer.Typer):
                app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
                app.command(name)(target)
                target = app
            self._loaded[name] = typer.main.get_command(target)
