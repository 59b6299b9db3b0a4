"""Episodes as a pure function of (dataset digest, part, seed, index).

``ImageEpisodes`` draws N-way K-shot classification tasks from a class store;
``data_pipeline.functions`` draws regression tasks from a family of functions. Both give
``EpisodeBatch``, both are random access, and neither depends on who asks or in which order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from data_pipeline.class_store import ClassStore
from data_pipeline.datasets import Part
from data_pipeline.errors import DataError, TooFew
from data_pipeline.storage import canonical_json, sha256_bytes
from data_pipeline.streams import Stream, fold

#: Version of everything in this file that decides an episode's bits.
GENERATOR_VERSION = 1
#: Episode ids are permuted in blocks of this many (see :class:`EpisodeSequence`).
BLOCK = 64

Rotations = Literal["none", "per_episode", "as_classes"]
Labels = Literal["permuted", "fixed"]


@dataclass(frozen=True)
class EpisodeSpec:
    """Shape of a task.

    Attributes:
        ways: classes of a classification episode (N); 0 for regression.
        shots: support examples per class, or support points of a function (K).
        queries: query examples per class, or query points of a function.
        rotations: ``none``; ``per_episode`` turns each class of an episode by its own random
            multiple of 90 degrees (what MAML's code does); ``as_classes`` makes every class four
            classes (what Matching and Prototypical Networks do).
        labels: ``permuted`` gives a class another label in every episode; ``fixed`` the same one
            always, which makes tasks that are not mutually exclusive (Yin et al., ICLR 2020).
    """

    ways: int
    shots: int
    queries: int
    rotations: Rotations = "none"
    labels: Labels = "permuted"


@dataclass(frozen=True)
class EpisodeBatch:
    """T episodes, stacked. S = support examples, Q = query examples of one episode.

    Attributes:
        ids: int64 [T].
        support_x: uint8 [T, S, H, W, C] for images, float32 [T, S, D] for functions.
        support_y: int64 [T, S] labels in [0, N), or float32 [T, S, E] values.
        query_x, query_y: the same with Q.
        class_ids: int64 [T, N], 4 x class index in the part + quarter turns; images only.
        latent: float64 [T, L], the true parameters of the function; functions only.
    """

    ids: NDArray[np.int64]
    support_x: NDArray[Any]
    support_y: NDArray[Any]
    query_x: NDArray[Any]
    query_y: NDArray[Any]
    class_ids: NDArray[np.int64] | None = None
    latent: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that are present, by field name, in a fixed order."""
        fields = ("ids", "support_x", "support_y", "query_x", "query_y", "class_ids", "latent")
        values = ((name, getattr(self, name)) for name in fields)
        return {name: value for name, value in values if value is not None}


def stack(parts: Sequence[EpisodeBatch]) -> EpisodeBatch:
    """Concatenate batches along the task axis."""
    if len(parts) == 1:
        return parts[0]
    names = parts[0].arrays()
    return EpisodeBatch(**{n: np.concatenate([p.arrays()[n] for p in parts]) for n in names})


@dataclass(frozen=True)
class EpisodeRows:
    """T image episodes without their pixels. S = support, Q = query examples, N = ways.

    Attributes:
        ids: int64 [T].
        support_rows, query_rows: int64 [T, S] and [T, Q], rows of the part in the class store.
        support_y, query_y: int64 [T, S] and [T, Q], labels in [0, N).
        class_ids: int64 [T, N], 4 x class index in the part + quarter turns.
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
        turns = np.take_along_axis(rows.class_ids & 3, labels, axis=1)
        for quarter in (1, 2, 3):
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


@dataclass(frozen=True)
class Identity:
    """What decides an episode's bits beside its index. Equal identities, equal episodes."""

    kind: Literal["images", "function"]
    dataset: str
    dataset_digest: str
    part: Part
    seed: int
    spec: EpisodeSpec
    generator: int = GENERATOR_VERSION

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able form; ``permuted`` labels, the only ones there once were, go without saying.

        So identities, and shards that name them, are what they were before ``fixed`` came.
        """
        fields = asdict(self)
        if self.spec.labels == "permuted":
            del fields["spec"]["labels"]
        return fields

    @property
    def digest(self) -> str:
        """SHA-256 over all fields."""
        return sha256_bytes(canonical_json(self.as_dict()))


class EpisodeSource(Protocol):
    """Random access to an endless list of episodes."""

    @property
    def identity(self) -> Identity:
        """What decides the bits of episode ``id`` beside ``id``."""

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order."""


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
        self._universe = len(sizes) * (4 if spec.rotations == "as_classes" else 1)
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
            return [divmod(u, 4) for u in chosen]
        if self._spec.rotations == "per_episode":
            return [(c, stream.below(4)) for c in chosen]
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
        chosen = [[4 * c + turns for c, turns in classes] for classes in drawn]
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
            class_ids[t] = [4 * c + turns for c, turns in classes]
            order = Stream(self._order_key, i)
            for out, part in ((support, drawn[:, : spec.shots]), (query, drawn[:, spec.shots :])):
                shuffled = np.array(order.permutation(part.size), dtype=np.int64)
                out[0, t] = part.ravel()[shuffled]
                out[1, t] = shuffled // part.shape[1]
        return EpisodeRows(index, support[0], support[1], query[0], query[1], class_ids)

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order."""
        return fetch(self._part.images, self.rows(ids))


class EpisodeSequence:
    """Which episode a run reads at position p: the run's walk through a bank of episodes.

    With ``length`` M, position p reads episode π_epoch(p mod M) where epoch = p div M and π_0 is
    the identity. Later epochs permute blocks of 64 consecutive ids (the last may be short), then
    the ids inside each block, so that a reader of shards still reads whole members. Without a
    length, position p reads episode p.

    Args:
        length: number of episodes in the bank, or None for an unlimited sequence.
        seed: ``data.seed`` of the recipe.
    """

    def __init__(self, length: int | None, seed: int) -> None:
        if length is not None and length < 1:
            raise DataError(f"a bank needs at least one episode, got {length}")
        self.length = length
        self._blocks_key = fold("epoch-blocks", GENERATOR_VERSION, seed)
        self._inside_key = fold("epoch-inside", GENERATOR_VERSION, seed)
        self._epoch = -1
        self._order: list[int] = []
        self._starts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._inside: dict[int, list[int]] = {}

    def ids(self, start: int, stop: int) -> list[int]:
        """Episode ids at positions ``start`` to ``stop - 1``."""
        if self.length is None:
            return list(range(start, stop))
        return [self._id(*divmod(p, self.length)) for p in range(start, stop)]

    def _id(self, epoch: int, offset: int) -> int:
        if epoch == 0:
            return offset
        if epoch != self._epoch:
            self._enter(epoch)
        place = int(np.searchsorted(self._starts, offset, side="right")) - 1
        block = self._order[place]
        return block * BLOCK + self._within(block)[offset - int(self._starts[place])]

    def _size(self, block: int) -> int:
        assert self.length is not None
        return min(BLOCK, self.length - block * BLOCK)

    def _enter(self, epoch: int) -> None:
        assert self.length is not None
        blocks = -(-self.length // BLOCK)
        self._order = Stream(self._blocks_key, epoch).permutation(blocks)
        sizes = [self._size(block) for block in self._order]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        self._inside = {}
        self._epoch = epoch

    def _within(self, block: int) -> list[int]:
        if block not in self._inside:
            stream = Stream(self._inside_key, (self._epoch << 32) + block)
            self._inside[block] = stream.permutation(self._size(block))
        return self._inside[block]
