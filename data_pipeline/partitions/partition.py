"""A partition of images into clusters, several of them, and the digest that tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.storage.local import canonical_json, sha256_bytes

#: Called with (partitions made, partitions asked for).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Partition:
    """Disjoint clusters of the images of a part; an image may be in none.

    Attributes:
        rows: int64 [m], rows of the part, those of a cluster one after another and ascending.
        offsets: int64 [clusters + 1]; cluster c has ``rows[offsets[c]:offsets[c + 1]]``.
    """

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of_labels(cls, labels: NDArray[np.integer[Any]], smallest: int = 1) -> Partition:
        """Images by their label.

        Args:
            labels: [n], of each image; negative: it is in no cluster.
            smallest: clusters of fewer images are dropped; the others keep their order.
        """
        numbers, counts = np.unique(labels[labels >= 0], return_counts=True)
        kept = numbers[counts >= smallest]
        chosen = np.flatnonzero(np.isin(labels, kept))
        order = chosen[np.argsort(labels[chosen], kind="stable")]
        offsets = np.concatenate([[0], np.cumsum(counts[counts >= smallest])])
        return cls(order.astype(np.int64), offsets.astype(np.int64))

    @property
    def clusters(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1


@dataclass(frozen=True, eq=False)
class Partitions:
    """Partitions of the training images of one class store.

    Attributes:
        root: the directory they lie in.
        store_digest: of the class store.
        digest: see :func:`contents_digest`.
        made: how they were made, JSON-able.
    """

    root: Path
    store_digest: str
    digest: str
    each: tuple[Partition, ...]
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def clusters(self) -> int:
        """Of all partitions together."""
        return sum(partition.clusters for partition in self.each)


def contents_digest(store_digest: str, partitions: Sequence[Partition]) -> str:
    """SHA-256 of who is with whom: not of how, when or by which versions it was found out."""
    contents = [
        {"offsets": partition.offsets.tolist(), "rows": sha256_bytes(_little_endian(partition))}
        for partition in partitions
    ]
    return sha256_bytes(canonical_json(["partitions", store_digest, contents]))


def _little_endian(partition: Partition) -> bytes:
    return partition.rows.astype("<i8").tobytes()
