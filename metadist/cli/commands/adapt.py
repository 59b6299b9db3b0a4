"""``metadist adapt``."""

from __future__ import annotations

from typing import Any

import click

from metadist import api
from metadist.cli import options


@click.command()
@click.argument("run")
@click.option(
    "--support",
    metavar="DIR",
    required=True,
    help="Labelled images: a folder for each class, named as its label.",
)
@click.option(
    "--query",
    metavar="DIR",
    required=True,
    help="Images to label, side by side; or in folders named as labels, to count what is right.",
)
@click.option(
    "--out",
    metavar="DIR",
    help="New directory of the results. Default: RUN-adapted, or RUN-adapted-2 … if that is taken.",
)
@click.option(
    "--steps", type=click.IntRange(min=0), help="Adaptation steps. Default: as in training."
)
@click.option("--invert", is_flag=True, help="Exchange light and dark in all images.")
@click.option("--follow-links", is_flag=True, help="Let links lead out of the folders of images.")
@click.option("--skip-damaged", is_flag=True, help="Go on without images that cannot be decoded.")
@options.of_a_run
def adapt(as_json: bool, **arguments: Any) -> None:
    """Adapt the best checkpoint of RUN to labelled images and label others.

    RUN is a finished run that classifies images: a name under the runs directory or a path. It
    tells as many classes apart as it was trained for; each may have any number of images.

    Results: predictions.csv, a picture of them, and adaptation.json, in a directory of their own.
    """
    result = api.adapt(**arguments)
    options.show(_text(result), result, as_json)


def _text(result: dict[str, Any]) -> list[str]:
    """An adaptation for people."""
    shots = ", ".join(f"{label} ({count})" for label, count in list(result["labels"].items())[:20])
    if len(result["labels"]) > 20:
        shots += f" and {len(result['labels']) - 20} more"
    steps = "" if result["steps"] is None else f", adaptation steps: {result['steps']}"
    lines = [
        f"{result['run']}: {result['queries']} images labelled by {result['algorithm']}{steps}",
        f"Labels (and their support images): {shots}",
    ]
    if "accuracy" in result:
        lines.append(
            f"{result['right']} of {result['queries']} are right: {100 * result['accuracy']:.2f} %"
        )
    lines += [f"Note: {note}" for note in result["notes"]]
    return [*lines, f"Files: {result['directory']}"]
