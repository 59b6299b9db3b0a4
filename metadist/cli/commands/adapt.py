"""``metadist adapt``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import completion, options


@click.command()
@click.argument("run", shell_complete=completion.runs)
@options.text(
    "--support",
    "DIR",
    "Labelled images: a folder for each class, named as its label.",
    required=True,
)
@options.text(
    "--query",
    "DIR",
    "Images to label, side by side; or in folders named as labels, to count what is right.",
    required=True,
)
@options.text("--unlabeled", "DIR", "Images without labels, of a learner that learns from such.")
@options.text(
    "--out",
    "DIR",
    "New directory of the results. Default: RUN-adapted, or RUN-adapted-2 … if that is taken.",
)
@options.count("--steps", 0, "Adaptation steps. Default: as in training.")
@options.flag("--invert", "Exchange light and dark in all images.")
@options.flag("--follow-links", "Let links lead out of the folders of images.")
@options.flag("--skip-damaged", "Go on without images that cannot be decoded.")
@options.of_a_run
def adapt(as_json: bool, **arguments: Any) -> None:
    """Adapt the best checkpoint of RUN to labelled images and label others.

    RUN is a finished run that classifies images: a name under the runs directory or a path. It
    tells as many classes apart as it was trained for; each may have any number of images.

    Results: predictions.csv, a picture of them, and adaptation.json, in a directory of their own.
    """
    result = api.adapt(**arguments)
    options.show(result.lines(), result.to_dict(), as_json)
