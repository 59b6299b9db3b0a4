"""``metadist data cluster``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from metadist import api
from metadist.cli import options
from metadist.process.console import at_work


@click.command()
@click.argument("what", metavar="NAME_OR_PATH")
@options.text(
    "--embedding",
    "FILE",
    "Parquet of vectors, a row for each image: 'key' is part/class/image, all other columns are "
    "numbers. 'metadist data embed' makes one. Default: pixels.",
)
@click.option(
    "--by",
    type=click.Choice(["kmeans", "hyperplanes", "classes", "random"]),
    default="kmeans",
    help="How images are grouped; by their true classes or at random for comparison.",
)
@options.count("--clusters", 2, "Clusters of a partition, before small ones go.", default=500)
@options.count("--partitions", 1, "Partitions; each task is of one of them.", default=1)
@options.count("--smallest", 1, "Images that a task takes of a class.", default=6)
@options.count("--ways", 2, "Classes of a task; for hyperplanes.", default=20)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Distance to each hyperplane, in standard deviations of the embedding.",
)
@options.count("--starts", 1, "Of k-means. Default: 10 for one partition, 1 for several.")
@options.count("--seed", 0, "Of all random choices.", default=0)
@options.text("--name", "NAME", "Of the partitions. Default: that of the grouping.", default="")
@options.flag("--replace", "In the place of partitions of that name.")
@options.data_dir
def cluster(what: str, **arguments: Any) -> None:
    """Group the training images of a class store: clusters stand for classes in training.

    NAME is that of a store under the data directory or of a dataset. A recipe with data.partition
    set learns from them without labels; validation and test stay as they are.
    """
    from metadist.report.phrases import plural
    from metadist.statistics.format import mean_ci

    with at_work() as tell:
        result = api.cluster(
            what,
            announce=options.say,
            progress=lambda done, total: tell(f"Clustering: {done:,} of {total:,} partitions"),
            **arguments,
        )
    options.show(
        [
            f"{plural(result['partitions'], 'partition')} into {result['clusters']} clusters of "
            f"{result['images']} images are in {result['directory']}",
            f"  digest: {result['digest']}",
            *(
                f"  comparing vectors gets {mean_ci(mean, half, '{:.1f}', '%')} of 5-way "
                f"{shots}-shot test episodes right"
                for shots, (mean, half) in result["nearest_neighbour"].items()
            ),
        ]
    )
    options.say(f"Train from them: --set {shlex.quote('data.partition=' + result['name'])}")
