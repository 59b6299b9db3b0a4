"""Groups of commands: one module each in a package, found by its name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Any

import click

from metadist.cli.verbosity import listens


def load(package: str, name: str) -> click.Command:
    """The command of the module called ``name`` in a package."""
    held = vars(importlib.import_module(f"{package}.{name}")).values()
    return listens(next(c for c in held if isinstance(c, click.Command) and c.name == name))


class Group(click.Group):
    """The commands of a package, imported when they are asked for.

    So ``doctor`` can still say what is wrong where another command's imports fail. A module defines
    the command of its name; one whose name begins with an underscore helps others.

    Args:
        package: name of the package.
    """

    def __init__(self, *args: Any, package: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        modules = pkgutil.iter_modules(importlib.import_module(self._package).__path__)
        return sorted(module.name for module in modules if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(self._package, cmd_name) if cmd_name in self.list_commands(ctx) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that a line begins with; the nearest is named where there is none."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)
