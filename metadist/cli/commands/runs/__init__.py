"""``metadist runs``: list and delete runs."""

from __future__ import annotations

import click

from metadist.cli.groups import Group


class _Listing(Group):
    """Without a subcommand it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Begin with ``list`` where only its options are given."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Listing, package=__name__, subcommand_metavar="[list]  or  delete …")
def runs() -> None:
    """List runs, or delete some.

    \b
        metadist runs --filter algorithm=maml --filter status=finished --since 7d
        metadist runs delete first second
        metadist runs delete --filter 'name=try-*'
    """
