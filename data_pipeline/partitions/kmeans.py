"""Clusters of an embedding by k-means, over random scalings of its dimensions.

Hsu, Levine & Finn, "Unsupervised Learning via Meta-Learning" (CACTUs), ICLR 2019, algorithm 1. A
partition is found by k-means in A z, where A is diagonal: the identity for the first partition,
uniform in (0, 1) for each other, so that other partitions go by other features. Settings of its
released code: k-means++, ten starts for one partition and one start for several; more than three
quarters of the clusters must be larger than the images that a task takes of a class, or it is
done again; clusters that are smaller are dropped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataError
from data_pipeline.partitions.partition import Partition, Progress
from data_pipeline.rng import Stream, fold

_MOST_ITERATIONS = 3000
_LARGE_ENOUGH = 0.75
_ATTEMPTS = 10


def kmeans(
    vectors: NDArray[np.float32],
    *,
    clusters: int,
    smallest: int,
    seed: int,
    partitions: int = 1,
    starts: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Partition]:
    """Partitions by k-means; each is a function of vectors, seed and its number.

    The same bits wherever the arithmetic is the same: one thread adds up.

    Args:
        vectors: float32 [n, D], of each image.
        clusters: k, before small ones are dropped.
        smallest: images that a task takes of a class.
        partitions: how many.
        starts: of which the best is taken; None: 10 for one partition, else 1.
        progress: called with (partitions made, partitions) at the beginning and after each.

    Raises:
        DataError: more clusters than images, or too many clusters stay small.
    """
    if not 2 <= clusters <= len(vectors):
        raise DataError(
            f"2 to {len(vectors)} clusters of {len(vectors)} images are possible, {clusters} were "
            "asked for (--clusters)"
        )
    if starts is None:
        starts = 10 if partitions == 1 else 1
    for number in range(partitions):
        if progress is not None:
            progress(number, partitions)
        scale = Stream(fold("scaling", seed), number).uniforms(vectors.shape[1])
        scaled = vectors if number == 0 else vectors * scale.astype(np.float32)
        yield _large_enough(
            scaled, clusters, smallest, starts, Stream(fold("k-means", seed), number)
        )
    if progress is not None:
        progress(partitions, partitions)


def _large_enough(
    vectors: NDArray[np.float32], clusters: int, smallest: int, starts: int, stream: Stream
) -> Partition:
    large = 0
    for _ in range(_ATTEMPTS):
        labels = _labels(vectors, clusters, starts, stream.below(1 << 32))
        sizes = np.bincount(labels, minlength=clusters)
        large = int((sizes > smallest).sum())
        if large > _LARGE_ENOUGH * clusters:
            return Partition.of_labels(labels, smallest)
    raise DataError(
        f"{large} of {clusters} clusters have more than {smallest} of the {len(vectors)} images; "
        f"more than {_LARGE_ENOUGH:.0%} are needed, and {_ATTEMPTS} attempts have not found them: "
        "ask for fewer clusters (--clusters), or for smaller ones (--smallest)"
    )


def _labels(
    vectors: NDArray[np.float32], clusters: int, starts: int, seed: int
) -> NDArray[np.integer[Any]]:
    """The cluster of each vector, [n]."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    model = KMeans(
        clusters,
        init="k-means++",
        n_init=starts,
        max_iter=_MOST_ITERATIONS,
        random_state=seed,
        algorithm="lloyd",
    )
    # Several threads add up their shares in whichever order they get done.
    with threadpool_limits(1), warnings.catch_warnings():
        # That there are fewer different images than clusters shows in the clusters' sizes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels: NDArray[np.integer[Any]] = model.fit(vectors).labels_
    return labels
