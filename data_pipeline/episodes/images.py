"""Episodes of image classes: which images, which labels, turned by how many quarters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets import Part
from data_pipeline.episodes.types import (
    GENERATOR_VERSION,
    TURNS,
    EpisodeBatch,
    EpisodeSpec,
    Identity,
)
from data_pipeline.errors import DataError, TooFew
from data_pipeline.rng import Stream, fold
from data_pipeline.store.class_store import ClassStore


@dataclass(frozen=True)
class EpisodeRows:
    """T image episodes without their pixels. S = support, Q = query examples, N = ways.

    Attributes:
        ids: int64 [T].
        support_rows, query_rows: int64 [T, S] and [T, Q], rows of the part in the class store.
        support_y, query_y: int64 [T, S] and [T, Q], labels in [0, N).
        class_ids: int64 [T, N], see :data:`data_pipeline.episodes.types.TURNS`.
    """

    ids: NDArray[np.int64]
    support_rows: NDArray[np.int64]
    support_y: NDArray[np.int64]
    query_rows: NDArray[np.int64]
    query_y: NDArray[np.int64]
    class_ids: NDArray[np.int64]


def fetch(images: NDArray[np.uint8], rows: EpisodeRows) -> EpisodeBatch:
    """The episodes with their pixels, each image turned by the quarter turns of its way.

    Args:
        images: uint8 [n, H, W, C], the images of the part.
        rows: which of them; labels and rows must be in range.
    """

    def turned(index: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
        x = images[index]
        turns = np.take_along_axis(rows.class_ids % TURNS, labels, axis=1)
        for quarter in range(1, TURNS):
            chosen = turns == quarter
            if chosen.any():
                x[chosen] = np.rot90(x[chosen], quarter, axes=(1, 2))
        return x

    return EpisodeBatch(
        ids=rows.ids,
        support_x=turned(rows.support_rows, rows.support_y),
        support_y=rows.support_y,
        query_x=turned(rows.query_rows, rows.query_y),
        query_y=rows.query_y,
        class_ids=rows.class_ids,
    )


class ImageEpisodes:
    """N-way K-shot episodes over one part of a class store.

    Classes are drawn without replacement and in random order, so the label of a class is
    re-permuted in every episode; support and query images of a class are disjoint; both sets are
    shuffled, so that position says nothing about the label. Episodes that differ only in their
    number of queries share classes, rotations and support images, and the smaller query set is
    contained in the larger.

    With ``labels="fixed"`` the classes of the part (class and turn, if turned images are classes
    of their own) are divided into N groups by a permutation that depends on dataset digest, part
    and seed; an episode has one class of each group, and the group is its label.

    Raises:
        TooFew: fewer classes than ways, or a class with fewer than shots + queries images.
    """

    def __init__(self, store: ClassStore, part: Part, spec: EpisodeSpec, seed: int) -> None:
        if part not in store.parts:
            raise DataError(f"{store.root}: has no {part!r} classes; it has {sorted(store.parts)}")
        self.store = store
        self._part = store.parts[part]
        self._spec = spec
        sizes = np.diff(self._part.offsets)
        if len(sizes) < spec.ways or spec.ways < 1:
            raise TooFew(
                f"{spec.ways}-way episodes need that many {part} classes, "
                f"{store.dataset} ({store.split}) has {len(sizes)}",
                "classes",
                "ask for fewer ways",
            )
        need = spec.shots + spec.queries
        if spec.shots < 1 or spec.queries < 1:
            raise DataError(f"episodes need shots >= 1 and queries >= 1, got {spec}")
        small = np.flatnonzero(sizes < need)
        if len(small):
            name, size = self._part.class_names[int(small[0])], int(sizes[small[0]])
            more = f" (and {len(small) - 1} more like it)" if len(small) > 1 else ""
            raise TooFew(
                f"{part} episodes of {spec.shots} shots + {spec.queries} queries need {need} "
                f"images per class, class {name!r} of {store.dataset} has {size}{more}",
                "images",
                "ask for fewer shots or queries, or remove such classes",
            )
        if spec.rotations != "none" and store.shape[0] != store.shape[1]:
            raise DataError(
                f"rotations need square images, these are {store.shape}; set data.rotations to "
                "'none'"
            )
        self.identity = Identity("images", store.dataset, store.digest, part, seed, spec)
        self._sizes = sizes.tolist()
        self._draw_key = fold("episode", GENERATOR_VERSION, store.digest, part, seed)
        self._order_key = fold("order", GENERATOR_VERSION, store.digest, part, seed)
        self._universe = len(sizes) * (TURNS if spec.rotations == "as_classes" else 1)
        self._groups: list[list[int]] | None = None
        if spec.labels == "fixed":
            key = fold("labels", GENERATOR_VERSION, store.digest, part, seed)
            order = Stream(key).permutation(self._universe)
            self._groups = [order[label :: spec.ways] for label in range(spec.ways)]

    def _classes(self, stream: Stream) -> list[tuple[int, int]]:
        """(class index, quarter turns) of each way."""
        if self._groups is None:
            chosen = stream.sample(self._universe, self._spec.ways)
        else:
            chosen = [group[stream.below(len(group))] for group in self._groups]
        if self._spec.rotations == "as_classes":
            return [divmod(u, TURNS) for u in chosen]
        if self._spec.rotations == "per_episode":
            return [(c, stream.below(TURNS)) for c in chosen]
        return [(c, 0) for c in chosen]

    def _rows(self, stream: Stream, classes: list[tuple[int, int]]) -> NDArray[np.int64]:
        """Image rows [ways, shots + queries]: one image of every class per round.

        Drawing round by round makes the first rounds independent of how many follow, so the
        support does not depend on the number of queries.
        """
        spec = self._spec
        moved: list[dict[int, int]] = [{} for _ in classes]
        rows = np.empty((spec.ways, spec.shots + spec.queries), dtype=np.int64)
        for turn in range(spec.shots + spec.queries):
            for way, (c, _) in enumerate(classes):
                swaps = moved[way]
                other = turn + stream.below(self._sizes[c] - turn)
                rows[way, turn] = self._part.offsets[c] + swaps.get(other, other)
                swaps[other] = swaps.get(turn, turn)
        return rows

    def class_ids(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """int64 [T, N], as in :class:`EpisodeRows`, of these episodes, without their images.

        Shots and queries do not matter.
        """
        drawn = (self._classes(Stream(self._draw_key, int(i))) for i in ids)
        chosen = [[TURNS * c + turns for c, turns in classes] for classes in drawn]
        return np.array(chosen, dtype=np.int64).reshape(len(ids), self._spec.ways)

    def rows(self, ids: Sequence[int]) -> EpisodeRows:
        """The episodes with these ids, in this order, without their pixels."""
        spec = self._spec
        ways = spec.ways
        index = np.array([int(i) for i in ids], dtype=np.int64)
        class_ids = np.empty((len(index), ways), dtype=np.int64)
        support, query = (
            np.empty((2, len(index), ways * each), dtype=np.int64)
            for each in (spec.shots, spec.queries)
        )
        for t, i in enumerate(index.tolist()):
            stream = Stream(self._draw_key, i)
            classes = self._classes(stream)
            drawn = self._rows(stream, classes)
            class_ids[t] = [TURNS * c + turns for c, turns in classes]
            order = Stream(self._order_key, i)
            for out, part in ((support, drawn[:, : spec.shots]), (query, drawn[:, spec.shots :])):
                shuffled = np.array(order.permutation(part.size), dtype=np.int64)
                out[0, t] = part.ravel()[shuffled]
                out[1, t] = shuffled // part.shape[1]
        return EpisodeRows(index, support[0], support[1], query[0], query[1], class_ids)

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order."""
        return fetch(self._part.images, self.rows(ids))
