"""Episodes of image classes: which images, which labels, turned by how many quarters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets import Part
from data_pipeline.episodes.divisions import Division
from data_pipeline.episodes.groups import check_drawers, groups, together
from data_pipeline.episodes.types import (
    GENERATOR_VERSION,
    SETS,
    TURNS,
    Column,
    EpisodeBatch,
    EpisodeSpec,
    Identity,
    Schema,
    ordered,
)
from data_pipeline.errors import DataError, TooFew
from data_pipeline.partitions.partition import Partitions
from data_pipeline.rng import Stream, fold
from data_pipeline.store.attributes import check_size, open_attributes
from data_pipeline.store.class_store import ClassStore


def rows_schema(spec: EpisodeSpec) -> Schema:
    """The columns of image episodes without their pixels. N = ways, S examples of a set.

    ``support_rows``, ``query_rows`` and perhaps ``unlabeled_rows`` are rows [S] of the part in the
    class store; ``support_y`` and ``query_y`` labels in [0, N), ``unlabeled_y`` hidden ones, -1 of
    distractors; ``unlabeled_turns`` the quarter turns of each; ``class_ids`` [N] see
    :data:`data_pipeline.episodes.types.TURNS`. All are int64, but for ``class_attributes`` float32
    [N, A] where there are any.
    """
    sizes = {"support": spec.ways * spec.shots, "query": spec.ways * spec.queries}
    names = {f"{part}_{what}": size for part, size in sizes.items() for what in ("rows", "y")}
    if spec.unlabeled:
        size = (spec.ways + spec.distractors) * spec.unlabeled
        names |= dict.fromkeys(("unlabeled_rows", "unlabeled_y", "unlabeled_turns"), size)
    names["class_ids"] = spec.ways
    columns = {name: Column("int64", (size,)) for name, size in names.items()}
    if spec.attributes:
        columns["class_attributes"] = Column("float32", (spec.ways, spec.attributes))
    return {name: columns[name] for name in ordered(columns)}


def images_schema(spec: EpisodeSpec, shape: tuple[int, ...]) -> Schema:
    """The columns of episodes of images of this shape, [H, W, C]."""
    columns = {
        name.replace("_rows", "_x"): Column("uint8", (*column.shape, *shape))
        if name.endswith("_rows")
        else column
        for name, column in rows_schema(spec).items()
        if name != "unlabeled_turns"
    }
    return {name: columns[name] for name in ordered(columns)}


def fetch(images: NDArray[np.uint8], rows: EpisodeBatch) -> EpisodeBatch:
    """The episodes with their pixels, each image turned by the quarter turns of its class.

    Args:
        images: uint8 [n, H, W, C], the images of the part.
        rows: which of them, see :func:`rows_schema`; labels and rows must be in range.
    """
    columns = dict(rows.columns)
    for name in SETS:
        if f"{name}_rows" in columns:
            x = images[columns.pop(f"{name}_rows")]
            turns = columns.pop(f"{name}_turns", None)
            if turns is None:
                of_ways = columns["class_ids"] % TURNS
                turns = np.take_along_axis(of_ways, columns[f"{name}_y"], axis=1)
            for quarter in range(1, TURNS):
                chosen = turns == quarter
                if chosen.any():
                    x[chosen] = np.rot90(x[chosen], quarter, axes=(1, 2))
            columns[f"{name}_x"] = x
    return EpisodeBatch(rows.ids, columns)


class _Deck:
    """The images of some classes, drawn without replacement, one of every class per round.

    Drawing round by round makes the first rounds independent of how many follow, so the support
    does not depend on the number of queries.

    Args:
        first, sizes: of each class, the place of its first image and its number of images.
    """

    def __init__(self, first: Sequence[int], sizes: Sequence[int]) -> None:
        self._first, self._sizes = first, sizes
        self._moved: list[dict[int, int]] = [{} for _ in sizes]
        self._drawn = 0

    def draw(self, stream: Stream, rounds: int) -> NDArray[np.int64]:
        """Rows [classes, rounds] that have not been drawn yet."""
        rows = np.empty((len(self._sizes), rounds), dtype=np.int64)
        for turn in range(rounds):
            at = self._drawn + turn
            for number, (first, size) in enumerate(zip(self._first, self._sizes, strict=True)):
                swaps = self._moved[number]
                other = at + stream.below(size - at)
                rows[number, turn] = first + swaps.get(other, other)
                swaps[other] = swaps.get(at, at)
        self._drawn += rounds
        return rows


class _SameDrawer(_Deck):
    """The same, of classes that are as large as each other: in a round the image at the same place
    of every class, whose drawings stand in the order of their drawers."""

    def __init__(self, first: Sequence[int], sizes: Sequence[int]) -> None:
        super().__init__(first, sizes)
        self._places = _Deck([0], sizes[:1])

    def draw(self, stream: Stream, rounds: int) -> NDArray[np.int64]:
        return together(self._first, self._places.draw(stream, rounds))


class ImageEpisodes:
    """N-way K-shot episodes over one part of a class store.

    Classes are drawn without replacement and in random order, so the label of a class is
    re-permuted in every episode; support and query images of a class are disjoint; both sets are
    shuffled, so that position says nothing about the label. Episodes that differ only in their
    number of queries share classes, rotations and support images, and the smaller query set is
    contained in the larger.

    Unlabeled images are drawn from streams of their own after the others, so that support and
    query are the same with and without them. Those of a way are none of its support or query;
    distractors are other classes (or, ``as_classes``, other turns of one) than the ways. They are
    shuffled together: position says neither the class nor whether there is one.

    With ``labels="fixed"`` the classes of the part (class and turn, if turned images are classes
    of their own) are divided into N groups by a permutation that depends on dataset digest, part
    and seed; an episode has one class of each group, and the group is its label.

    With ``within="group"`` the ways are of one group of classes that has so many, each such group
    with equal chances; distractors are of any. With ``drawer="same"`` the rounds of images are by a
    drawer each.

    With ``partitions`` of the training images, clusters take the place of classes: each episode
    draws a partition, from a stream of its own, and its classes from that. All else is as before:
    a single partition into the true classes gives the same bytes as none.

    Raises:
        TooFew: fewer classes than ways + distractors, in a group than ways, or a class with fewer
            images than shots + queries + unlabeled.
        DataError: a part or size that is not possible, groups or drawers that the classes do not
            have, or partitions of other images.
    """

    def __init__(
        self,
        store: ClassStore,
        part: Part,
        spec: EpisodeSpec,
        seed: int,
        partitions: Partitions | None = None,
    ) -> None:
        if part not in store.parts:
            raise DataError(f"{store.root}: has no {part!r} classes; it has {sorted(store.parts)}")
        self.store = store
        self._part = store.parts[part]
        self._spec = spec
        self._division = Division.of_part(self._part)
        if partitions is not None:
            if (partitions.store_digest, part) != (store.digest, "train"):
                raise DataError(
                    f"{partitions.root}: partitions of the training images with digest "
                    f"{partitions.store_digest}, {part} episodes of {store.digest} were asked for; "
                    "make them from this store with `metadist data cluster`"
                )
            if spec.within != "all" or spec.drawer != "any" or spec.attributes:
                raise DataError(
                    "clusters have no groups, drawers or attributes: with data.partition "
                    "data.within 'all', data.drawer 'any' and data.attributes false are needed"
                )
            self._division = Division.of_partitions(partitions)
        spec.check_sizes()
        if spec.distractors and not spec.unlabeled:
            raise DataError(
                f"{spec.distractors} distractor classes have no images where there are no "
                "unlabeled ones: ask for unlabeled >= 1 (data.unlabeled), or for no distractors"
            )
        self._check_sizes()
        if spec.rotations != "none" and store.shape[0] != store.shape[1]:
            raise DataError(
                f"rotations need square images, these are {store.shape}; set data.rotations to "
                "'none'"
            )
        self._attributes, payload = self._attributes_of(store)
        if partitions is not None:
            payload["partitions"] = partitions.digest
        self.identity = Identity(
            "images", store.dataset, store.digest, part, seed, spec, payload=payload
        )
        self.schema = images_schema(spec, store.shape)
        division = self._division
        self._sizes, self._offsets = division.sizes.tolist(), division.offsets.tolist()
        names = "episode", "order", "unlabeled", "distractors", "unlabeled order", "partition"
        self._keys = {n: fold(n, GENERATOR_VERSION, store.digest, part, seed) for n in names}
        turns = TURNS if spec.rotations == "as_classes" else 1
        #: Of each partition, the classes that there are to draw from, turned ones counted.
        self._universes = [turns * int(count) for count in np.diff(division.starts)]
        self._groups: list[list[list[int]]] | None = None
        if spec.labels == "fixed":
            key = fold("labels", GENERATOR_VERSION, store.digest, part, seed)
            orders = [Stream(key, p).permutation(u) for p, u in enumerate(self._universes)]
            self._groups = [[o[label :: spec.ways] for label in range(spec.ways)] for o in orders]
        self._within = self._within_groups()
        if spec.drawer == "same":
            check_drawers(store, self._part)

    def _within_groups(self) -> list[list[int]] | None:
        """What of the universe belongs to each group of classes; None: it makes no difference."""
        spec = self._spec
        if spec.within == "all":
            return None
        if spec.labels == "fixed":
            raise DataError(
                "fixed labels divide all classes, so that an episode cannot be of one group: "
                "data.labels 'permuted' or within 'all' is needed"
            )
        turns = TURNS if spec.rotations == "as_classes" else 1
        found = groups(self.store, self._part, spec.ways)
        return [[turns * c + t for c in classes for t in range(turns)] for classes in found]

    def _attributes_of(
        self, store: ClassStore
    ) -> tuple[NDArray[np.float32] | None, dict[str, str]]:
        """Attributes [classes, A] of the part's classes, and what of them decides episodes."""
        spec = self._spec
        if not spec.attributes:
            return None, {}
        if spec.rotations != "none":
            raise DataError(
                "attributes say nothing of how an image is turned: set data.rotations to 'none', "
                f"or data.attributes to false; got {spec.rotations!r}"
            )
        found = open_attributes(store)
        check_size(found, spec.attributes, store)
        return found.parts[self._part.part], {"attributes": found.digest}

    def _check_sizes(self) -> None:
        """See that there are as many classes, and images of each, as an episode needs."""
        spec, store, part = self._spec, self.store, self._part.part
        division, sizes = self._division, self._division.sizes
        own = division.order is None
        if division.fewest < spec.ways + spec.distractors or spec.ways < 1:
            more = f" with {spec.distractors} distractor classes" if spec.distractors else ""
            kind = f"{part} classes" if own else "clusters"
            raise TooFew(
                f"{spec.ways}-way episodes{more} need that many {kind}, "
                f"{store.dataset} ({store.split}) has {division.fewest}",
                "classes",
                f"ask for fewer ways{' or distractors' if more else ''}",
            )
        need = spec.shots + spec.queries + spec.unlabeled
        small = np.flatnonzero(sizes < need)
        if len(small):
            size, first = int(sizes[small[0]]), int(small[0])
            name = self._part.class_names[first] if own else f"cluster {first}"
            others = f" (and {len(small) - 1} more like it)" if len(small) > 1 else ""
            unlabeled = f" + {spec.unlabeled} unlabeled" if spec.unlabeled else ""
            raise TooFew(
                f"{part} episodes of {spec.shots} shots + {spec.queries} queries{unlabeled} need "
                f"{need} images per class, class {name!r} of {store.dataset} has {size}{others}",
                "images",
                f"ask for fewer shots{',' if unlabeled else ' or'} queries"
                f"{' or unlabeled images' if unlabeled else ''}, or remove such classes",
            )

    def _classes(self, stream: Stream, index: int) -> list[tuple[int, int]]:
        """(class index, quarter turns) of each way of an episode."""
        partition = self._division.drawn(self._keys["partition"], index)
        if self._within is not None:
            group = self._within[stream.below(len(self._within))]
            chosen = [group[u] for u in stream.sample(len(group), self._spec.ways)]
        elif self._groups is None:
            chosen = stream.sample(self._universes[partition], self._spec.ways)
        else:
            chosen = [group[stream.below(len(group))] for group in self._groups[partition]]
        return self._turned(chosen, partition, stream)

    def _turned(self, chosen: list[int], partition: int, stream: Stream) -> list[tuple[int, int]]:
        """(class index, quarter turns) of these of a partition's universe."""
        first = self._division.starts[partition]
        if self._spec.rotations == "as_classes":
            return [(first + u // TURNS, u % TURNS) for u in chosen]
        if self._spec.rotations == "per_episode":
            return [(first + c, stream.below(TURNS)) for c in chosen]
        return [(first + c, 0) for c in chosen]

    def _distractors(
        self, ways: list[tuple[int, int]], stream: Stream, index: int
    ) -> list[tuple[int, int]]:
        """(class index, quarter turns) of each distractor of an episode: none of the ways."""
        partition = self._division.drawn(self._keys["partition"], index)
        first = self._division.starts[partition]
        as_classes = self._spec.rotations == "as_classes"
        taken = sorted(TURNS * (c - first) + q if as_classes else c - first for c, q in ways)
        chosen = stream.sample(self._universes[partition] - len(taken), self._spec.distractors)
        for other in taken:  # from the lowest: each makes room for itself
            chosen = [u + (u >= other) for u in chosen]
        return self._turned(chosen, partition, stream)

    def _deck(self, classes: list[tuple[int, int]]) -> _Deck:
        kind = _Deck if self._spec.drawer == "any" else _SameDrawer
        return kind([self._offsets[c] for c, _ in classes], [self._sizes[c] for c, _ in classes])

    def _unlabeled(
        self, index: int, ways: list[tuple[int, int]], deck: _Deck
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Rows, hidden labels and quarter turns [M] of an episode's unlabeled images.

        Args:
            deck: of the ways, of which support and query have been drawn.
        """
        each = self._spec.unlabeled
        own = deck.draw(Stream(self._keys["unlabeled"], index), each)
        stream = Stream(self._keys["distractors"], index)
        others = self._distractors(ways, stream, index)
        rows = np.concatenate([own, self._deck(others).draw(stream, each)]).ravel()
        labels = [*range(len(ways)), *[-1] * len(others)]
        turns = [t for _, t in ways + others]
        order = Stream(self._keys["unlabeled order"], index).permutation(len(rows))
        return rows[order], np.repeat(labels, each)[order], np.repeat(turns, each)[order]

    def class_ids(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """int64 [T, N], as in :func:`rows_schema`, of these episodes, without their images.

        Shots and queries do not matter.
        """
        drawn = (self._classes(Stream(self._keys["episode"], int(i)), int(i)) for i in ids)
        chosen = [[TURNS * c + turns for c, turns in classes] for classes in drawn]
        return np.array(chosen, dtype=np.int64).reshape(len(ids), self._spec.ways)

    def rows(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order, with the columns of :func:`rows_schema`."""
        spec = self._spec
        schema = rows_schema(spec)
        columns = {n: np.empty((len(ids), *c.shape), c.dtype) for n, c in schema.items()}
        for t, i in enumerate(map(int, ids)):
            stream = Stream(self._keys["episode"], i)
            classes = self._classes(stream, i)
            deck = self._deck(classes)
            drawn = deck.draw(stream, spec.shots + spec.queries)
            columns["class_ids"][t] = [TURNS * c + turns for c, turns in classes]
            if self._attributes is not None:
                columns["class_attributes"][t] = self._attributes[[c for c, _ in classes]]
            order = Stream(self._keys["order"], i)
            for name, part in (
                ("support", drawn[:, : spec.shots]),
                ("query", drawn[:, spec.shots :]),
            ):
                shuffled = np.array(order.permutation(part.size), dtype=np.int64)
                columns[f"{name}_rows"][t] = part.ravel()[shuffled]
                columns[f"{name}_y"][t] = shuffled // part.shape[1]
            if spec.unlabeled:
                found = self._unlabeled(i, classes, deck)
                for what, values in zip(("rows", "y", "turns"), found, strict=True):
                    columns[f"unlabeled_{what}"][t] = values
        for name in columns:
            if name.endswith("_rows"):
                columns[name] = self._division.rows(columns[name])
        return EpisodeBatch(np.array([int(i) for i in ids], dtype=np.int64), columns)

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order."""
        return fetch(self._part.images, self.rows(ids))
