"""Clusters of an embedding by random hyperplanes with a margin.

Hsu, Levine & Finn, "Unsupervised Learning via Meta-Learning" (CACTUs), ICLR 2019, appendix on
task construction by random hyperplanes, and its released code: ceil(log2 N) planes divide the
space into at least N zones, the clusters of a partition; what is nearer to one of its planes than
the margin belongs to none. Planes are drawn once, and each partition takes some of them: normals
uniform in a cube, points on them uniform within 0.8 of the middle.

Published lengths are those of one embedding. Here they are multiples of its standard deviation
(root mean square over dimensions), so that they mean the same for every embedding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataError
from data_pipeline.partitions.partition import Partition, Progress
from data_pipeline.rng import Stream, fold

_PLANES = 1000
_SPREAD = 0.8
#: On either side of a plane there must be so many times the images that a task takes of a class.
_EACH_SIDE = 10
_ATTEMPTS = 200


def hyperplanes(
    vectors: NDArray[np.float32],
    *,
    ways: int,
    smallest: int,
    seed: int,
    margin: float = 0.0,
    partitions: int = 1,
    progress: Progress | None = None,
) -> Iterator[Partition]:
    """Partitions by hyperplanes; each is a function of vectors, seed and its number.

    Args:
        vectors: float32 [n, D], of each image.
        ways: N, classes of a task: a partition has at least as many clusters.
        smallest: images that a task takes of a class: a cluster has at least as many.
        margin: distance to each plane, in standard deviations of the embedding.
        partitions: how many.
        progress: called with (partitions made, partitions) at the beginning and after each.

    Raises:
        DataError: planes or partitions of that kind are not found.
    """
    planes = int(np.ceil(np.log2(ways)))
    sides = _sides(vectors, smallest, margin, seed)
    for number in range(partitions):
        if progress is not None:
            progress(number, partitions)
        stream = Stream(fold("planes of a partition", seed), number)
        for _ in range(_ATTEMPTS):
            chosen = sides[stream.sample(len(sides), planes)]
            zones = (1 << np.arange(planes)[::-1]) @ (chosen > 0)
            zones[(chosen == 0).any(axis=0)] = -1
            partition = Partition.of_labels(zones, smallest)
            if partition.clusters >= ways:
                break
        else:
            raise DataError(
                f"no {planes} of {len(sides)} planes were found between which there are {ways} "
                f"zones of {smallest} images or more; lower the margin (--margin {margin:g}) or "
                f"the ways (--ways {ways})"
            )
        yield partition
    if progress is not None:
        progress(partitions, partitions)


def _sides(
    vectors: NDArray[np.float32], smallest: int, margin: float, seed: int
) -> NDArray[np.int8]:
    """On which side of each plane an image is, int8 [planes, n]: -1, 1, or 0 within the margin."""
    from threadpoolctl import threadpool_limits

    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    centred /= max(float(np.sqrt((centred**2).mean())), 1e-12)
    found = np.zeros((_PLANES, len(vectors)), np.int8)
    with threadpool_limits(1):  # the number of threads may change the last bits of a product
        for plane in range(_PLANES):
            stream = Stream(fold("plane", seed), plane)
            found[plane] = _side(centred, stream, smallest, margin)
    return found


def _side(
    centred: NDArray[np.float64], stream: Stream, smallest: int, margin: float
) -> NDArray[np.int8]:
    dimensions = centred.shape[1]
    for _ in range(_ATTEMPTS):
        normal = 2 * stream.uniforms(dimensions) - 1
        normal /= np.linalg.norm(normal)
        point = _SPREAD * (2 * stream.uniforms(dimensions) - 1)
        distance = centred @ normal - point @ normal
        side = np.where(distance >= margin, 1, np.where(distance <= -margin, -1, 0))
        if min((side > 0).sum(), (side < 0).sum()) >= _EACH_SIDE * smallest:
            return side.astype(np.int8)
    raise DataError(
        f"no plane was found with {_EACH_SIDE} x {smallest} images on either side, further away "
        f"than the margin; lower it (--margin {margin:g}), or take smaller clusters (--smallest)"
    )
