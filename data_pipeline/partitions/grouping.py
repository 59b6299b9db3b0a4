"""How training images are grouped: the ways there are, each with its settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataError, TooFew
from data_pipeline.partitions.hyperplanes import hyperplanes
from data_pipeline.partitions.kmeans import kmeans
from data_pipeline.partitions.partition import Partition, Progress
from data_pipeline.rng import Stream, fold
from data_pipeline.store.class_store import ClassStore

By = Literal["kmeans", "hyperplanes", "classes", "random"]
#: Those that go by an embedding.
EMBEDDED: tuple[By, ...] = ("kmeans", "hyperplanes")
#: Settings that are not those of every way of grouping.
_OF = {
    "kmeans": ("clusters", "starts", "partitions", "seed"),
    "hyperplanes": ("ways", "margin", "partitions", "seed"),
    "classes": (),
    "random": ("clusters", "partitions", "seed"),
}


@dataclass(frozen=True)
class Grouping:
    """A way to group the training images of a class store.

    Attributes:
        by: ``kmeans`` or ``hyperplanes`` in an embedding; ``classes``, the true ones; ``random``.
        clusters: of a partition, before small ones are dropped.
        partitions: how many; the true classes are one.
        smallest: images that a task takes of a class; smaller clusters are dropped.
        ways: classes of a task, for hyperplanes.
        margin: distance to each hyperplane, in standard deviations of the embedding.
        starts: of k-means; None: 10 for one partition, 1 for several.
        seed: of all random choices.

    Raises:
        DataError: a number that is too small.
    """

    by: By = "kmeans"
    clusters: int = 500
    partitions: int = 1
    smallest: int = 6
    ways: int = 20
    margin: float = 0.0
    starts: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"clusters": 2, "partitions": 1, "smallest": 1, "ways": 2, "margin": 0, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise DataError(f"{name}: at least {bound} is needed, got {getattr(self, name)}")

    def described(self) -> dict[str, Any]:
        """The settings that count, JSON-able."""
        named = ("by", "smallest", *_OF[self.by])
        return {key: value for key, value in asdict(self).items() if key in named}

    def found(
        self,
        store: ClassStore,
        vectors: NDArray[np.float32] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Partition]:
        """The partitions.

        Args:
            vectors: float32 [n, D], of each training image; what is in :data:`EMBEDDED` needs them.
            progress: called with (partitions made, partitions).

        Raises:
            DataError: there are none of that kind.
            TooFew: no cluster has enough images.
        """
        held = store.parts["train"]
        smallest, seed = self.smallest, self.seed
        if self.by in EMBEDDED and vectors is None:
            raise DataError(f"by {self.by}: images are grouped by their vectors, none were given")
        if self.by == "kmeans" and vectors is not None:
            yield from kmeans(
                vectors,
                clusters=self.clusters,
                smallest=smallest,
                seed=seed,
                partitions=self.partitions,
                starts=self.starts,
                progress=progress,
            )
        elif vectors is not None:
            yield from hyperplanes(
                vectors,
                ways=self.ways,
                smallest=smallest,
                seed=seed,
                margin=self.margin,
                partitions=self.partitions,
                progress=progress,
            )
        elif self.by == "classes":
            sizes = np.diff(held.offsets)
            yield self._some(Partition.of_labels(np.repeat(np.arange(len(sizes)), sizes), smallest))
        else:
            for number in range(self.partitions):
                stream = Stream(fold("random clusters", seed), number)
                drawn = [stream.below(self.clusters) for _ in range(len(held.images))]
                yield self._some(Partition.of_labels(np.array(drawn), smallest))

    def _some(self, partition: Partition) -> Partition:
        if not partition.clusters:
            raise TooFew(
                f"no cluster has {self.smallest} images (--smallest)",
                "images",
                "ask for smaller clusters, or for fewer (--clusters)",
            )
        return partition
