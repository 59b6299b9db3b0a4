"""Which rows of a part are a class: as labelled, or as clusters of partitions stand for classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_pipeline.partitions.partition import Partitions
from data_pipeline.rng import Stream
from data_pipeline.store.class_store import StorePart


@dataclass(frozen=True, eq=False)
class Division:
    """The classes of a part, in one or several partitions; an episode's are of one of these.

    Attributes:
        starts: first class of each partition, and the number of all classes.
        offsets: int64 [classes + 1]; the images of class c are at places
            ``offsets[c]:offsets[c + 1]``.
        order: int64, row of the part at each place; None: the place is the row.
    """

    starts: tuple[int, ...]
    offsets: NDArray[np.int64]
    order: NDArray[np.int64] | None = None

    @classmethod
    def of_part(cls, part: StorePart) -> Division:
        """As the images are labelled."""
        return cls((0, len(part.class_names)), part.offsets)

    @classmethod
    def of_partitions(cls, partitions: Partitions) -> Division:
        """As clusters: those of the first partition come first."""
        each = partitions.each
        starts = np.cumsum([0, *(p.clusters for p in each)])
        sizes = np.concatenate([np.diff(p.offsets) for p in each])
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return cls(tuple(starts.tolist()), offsets, np.concatenate([p.rows for p in each]))

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Images of each class."""
        return np.diff(self.offsets)

    @property
    def fewest(self) -> int:
        """Classes of the partition that has the fewest."""
        return int(np.diff(self.starts).min())

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self.starts) - 1

    def drawn(self, key: int, index: int) -> int:
        """The partition of an episode."""
        return 0 if self.partitions == 1 else Stream(key, index).below(self.partitions)

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the part at these places."""
        return places if self.order is None else self.order[places]
