"""``metadist data verify``."""

from __future__ import annotations

import click

from metadist import api
from metadist.cli import options
from metadist.cli.commands.data._text import summary


@click.command()
@click.argument("what", metavar="[PATH|NAME]", required=False)
@options.flag("--deep", "Look at each image and draw each episode again; takes longer.")
@options.data_dir
def verify(what: str | None, deep: bool, data_dir: str | None) -> None:
    """Check that prepared data and shards are what was written.

    NAME is that of a store under the data directory or of a dataset; without it, everything
    there is checked. Every finding is listed; the exit code is 1 if there is one.
    """
    objects = looked_at = damaged = 0
    root = api.data_directory(data_dir)
    found = api.verify(
        what, deep=deep, data_dir=root, announce=lambda line: options.show([f"note {line}"])
    )
    for one in found:
        whole = f"OK   {one.address or summary(one.item, root)}"
        options.show([f"BAD  {problem}" for problem in one.problems] or [whole])
        if one.address:
            objects += len(one.problems)
        else:
            looked_at, damaged = looked_at + 1, damaged + bool(one.problems)
    if objects or damaged:
        bad = f"{objects} objects" if objects else f"{damaged} of {looked_at}"
        raise click.ClickException(
            f"{bad} are not as they were written: prepare or shard them anew with --replace"
        )
