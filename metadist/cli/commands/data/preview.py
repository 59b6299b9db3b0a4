"""``metadist data preview``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import options


@click.command()
@click.argument("what", metavar="NAME_OR_PATH")
@click.option(
    "--part",
    type=click.Choice(["train", "val", "test"]),
    default="train",
    help="Which classes.",
)
@options.text("--out", "FILE", "Where the picture goes. Default: ./NAME-PART.png.")
@options.data_dir
def preview(part: Any, **arguments: Any) -> None:
    """Draw a contact sheet of a class store and print its statistics.

    NAME is that of a store under the data directory or of a dataset.
    """
    from metadist.statistics.classes import few_classes
    from metadist.statistics.format import mean_ci

    result = api.preview(part=part, announce=options.say, **arguments)
    figures = result["statistics"]
    rows = [
        [key.replace("_", " "), *(f"{held[key]:.6g}" for held in figures.values())]
        for key in figures[part]
    ]
    options.show_rows([["", *figures], *rows], right=range(1, len(figures) + 1))
    if result["nearest_neighbour"] is not None:
        (mean, half), classes = result["nearest_neighbour"], int(figures[part]["classes"])
        click.echo(
            f"comparing raw pixels gets {mean_ci(mean, half, '{:.1f}', '%')} of 5-way 1-shot "
            f"{part} episodes right, of {classes} classes"
        )
        if few := few_classes(classes, 5, part):
            click.echo(f"Warning: {few}")
    click.echo(str(result["path"]))
