"""``metadist data shard``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from metadist import api
from metadist.cli import completion, options
from metadist.process.console import at_work


@click.command()
@click.argument("recipe", shell_complete=completion.recipes)
@options.text("--set", "K=V", "Override a key, as data.seed=1.", into="overrides", multiple=True)
@options.count(
    "--count", 1, "Episodes. Default: as many as the run reads.", large=True, metavar="N"
)
@options.count(
    "--writers",
    1,
    "Processes; the bytes do not depend on it. Default: one for each core.",
    metavar="N",
)
@click.option(
    "--payload",
    type=click.Choice(["auto", "inline", "index"]),
    default="auto",
    help="Images inside (inline) or looked up in the class store (index); auto: by their size.",
)
@options.count(
    "--shard-episodes",
    1,
    "Episodes of one shard file, a multiple of 64.",
    default=4096,
    metavar="N",
)
@options.flag("--replace", "Write anew even if shards are there.")
@options.plugins
@options.data_dir
def shard(recipe: str, overrides: tuple[str, ...], **arguments: Any) -> None:
    """Write the training episodes of RECIPE as shards.

    RECIPE is the name of a built-in recipe or a TOML file. A run with data.storage = "shards"
    then reads them; it learns from the same episodes as without, bit for bit.
    """
    with at_work() as tell:
        result = api.shard(
            recipe,
            overrides=overrides,
            announce=options.say,
            progress=lambda done, total: tell(f"Writing: {done:,} of {total:,} episodes"),
            **arguments,
        )
    episodes, there = result["episodes"], "are in" if result["written"] else "were in"
    already = "" if result["written"] else " already"
    click.echo(f"{episodes} episodes ({result['payload']}) {there} {result['directory']}{already}")
    if episodes < result["needed"]:
        options.say(
            f"The recipe as it stands needs {result['needed']} episodes and will refuse these"
        )
    settings = [part for text in (*overrides, "data.storage=shards") for part in ("--set", text)]
    options.say(f"Train from them: {shlex.join(['metadist', 'train', recipe, *settings])}")
