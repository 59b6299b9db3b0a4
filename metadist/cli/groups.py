"""Groups of commands that know what a mistyped one was to be."""

from __future__ import annotations

import difflib

import click


class Group(click.Group):
    """Names the nearest command where there is none of a name, wherever commands come from."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that a line begins with."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are {self._all(ctx)}."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def _all(self, ctx: click.Context) -> str:
        return ", ".join(self.list_commands(ctx))
