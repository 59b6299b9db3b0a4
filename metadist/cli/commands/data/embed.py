"""``metadist data embed``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import options
from metadist.process.console import Painter, meters


@click.command()
@click.argument("what", metavar="NAME_OR_PATH")
@options.text("--out", "FILE", "The Parquet file. Default: ./NAME-autoencoder.parquet.")
@options.flag("--interpolation", "Train for realistic interpolations too (ACAI); takes longer.")
@options.count("--latent", 1, "Channels of the embedding, of about 4 x 4 places.", default=16)
@options.count("--width", 1, "Channels of the first convolution.", default=32)
@options.count("--steps", 1, "Updates.", default=2000, large=True)
@options.count("--batch", 2, "Images of an update.", default=64)
@click.option("--lr", type=float, default=1e-3, help="Adam's learning rate.")
@options.count("--seed", 0, "Of initialisation and batches.", default=0)
@options.device
@options.data_dir
def embed(what: str, **arguments: Any) -> None:
    """Train an auto-encoder on training images, without labels, and embed all images of a store.

    NAME is that of a store under the data directory or of a dataset. 'metadist data cluster' makes
    clusters of the file.
    """
    done, total = 0, 1

    def progress(steps: int, of: int) -> None:
        nonlocal done, total
        done, total = steps, of
        painter.paint()

    def picture() -> Any:
        return meters([(done, total, f"auto-encoder: {done:,} of {total:,} updates")])

    with Painter(picture, keep=False) as painter:
        result = api.embed(what, announce=options.say, progress=progress, **arguments)
    options.say(
        f"{result['dimensions']} dimensions; mean squared error of pixels in [-1, 1]: "
        f"{result['loss']:.4f}"
    )
    click.echo(str(result["path"]))
