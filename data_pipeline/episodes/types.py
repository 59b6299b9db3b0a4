"""What an episode is: its shape, its columns, what decides its bits, and who draws it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets import Part
from data_pipeline.errors import DataError
from data_pipeline.storage.local import canonical_json, sha256_bytes

#: Version of everything in ``episodes`` that decides an episode's bits.
GENERATOR_VERSION = 1
#: Episode ids are permuted in blocks of this many (see :mod:`data_pipeline.episodes.sequence`).
BLOCK = 64

#: Quarter turns of an image; a class id is TURNS x the class's index in its part + its turns.
TURNS = 4

Rotations = Literal["none", "per_episode", "as_classes"]
Labels = Literal["permuted", "fixed"]
Within = Literal["all", "group"]
Drawer = Literal["any", "same"]


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
        unlabeled: further examples of each class whose labels are hidden, or further points of a
            function (U).
        distractors: further classes with as many unlabeled examples, which are none of the ways
            (D; Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR 2018).
        within: ``group`` takes the ways of an episode from one group of classes, such as an
            alphabet; see :mod:`data_pipeline.episodes.groups`.
        drawer: ``same`` takes the k-th image of all ways from the same drawer, who has drawn no
            other of the episode.
        attributes: numbers that are told of each class beside its images (A); 0: none.
    """

    ways: int
    shots: int
    queries: int
    rotations: Rotations = "none"
    labels: Labels = "permuted"
    unlabeled: int = 0
    distractors: int = 0
    within: Within = "all"
    drawer: Drawer = "any"
    attributes: int = 0

    def check_sizes(self) -> None:
        """See that there may be so many examples; raises DataError."""
        if self.shots < 1 or self.queries < 1:
            raise DataError(f"episodes need shots >= 1 and queries >= 1, got {self}")
        if self.unlabeled < 0 or self.distractors < 0:
            raise DataError(
                "episodes need unlabeled >= 0 and distractors >= 0 (data.unlabeled, "
                f"data.distractors), got {self}"
            )

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able form without the fields that came later, where they say what always was.

        So identities, and shards that name them, stay what they were.
        """
        later = {
            "labels": "permuted",
            "unlabeled": 0,
            "distractors": 0,
            "within": "all",
            "drawer": "any",
            "attributes": 0,
        }
        return {n: v for n, v in asdict(self).items() if n not in later or v != later[n]}


@dataclass(frozen=True)
class Column:
    """One column of a source's episodes: NumPy's name of its type, and its shape of one episode."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Column:
        """That of T stacked episodes."""
        return cls(array.dtype.name, array.shape[1:])


#: Name -> column, in the order of :func:`ordered`.
Schema = Mapping[str, Column]

#: Columns that every episode has.
ALWAYS = ("support_x", "support_y", "query_x", "query_y")
#: Sets of examples; a column ``<set>_<name>`` belongs to one.
SETS = ("support", "query", "unlabeled")
_FIRST = ("x", "rows", "y")


def ordered(names: Iterable[str]) -> list[str]:
    """Columns in their order: support, query and unlabeled, inputs first; then all others."""

    def place(name: str) -> tuple[int, int, str]:
        examples, _, what = name.partition("_")
        if examples not in SETS or not what:
            return len(SETS), 0, name
        rank = _FIRST.index(what) if what in _FIRST else len(_FIRST)
        return SETS.index(examples), rank, name

    return sorted(names, key=place)


@dataclass(frozen=True)
class EpisodeBatch:
    """T episodes, stacked. S = support examples, Q = query examples of one episode.

    Attributes:
        ids: int64 [T].
        columns: by name, each [T, ...], in the order of :func:`ordered`. Four are always there:
            ``support_x`` (uint8 [T, S, H, W, C] of images, else float [T, S, ...]), ``support_y``
            (int64 [T, S] labels in [0, N), or float [T, S, E] values), ``query_x`` and ``query_y``
            with Q examples. Further ones: ``unlabeled_x`` and ``unlabeled_y`` (hidden labels, -1
            of a distractor; or values), ``support_mask``, ``query_<extra>`` and so on, of one of
            the sets of examples; and whatever is known of an episode as a whole, under any other
            name: ``class_ids`` int64 [T, N] of images (see :data:`TURNS`), ``class_attributes``
            float32 [T, N, A] of their classes, ``latent`` float64 [T, L], the true parameters of a
            function.
    """

    ids: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        columns = {name: self.columns[name] for name in ordered(self.columns)}
        object.__setattr__(self, "columns", columns)

    @classmethod
    def empty(cls, schema: Schema) -> EpisodeBatch:
        """No episodes, of this schema."""
        columns = {n: np.empty((0, *c.shape), dtype=c.dtype) for n, c in schema.items()}
        return cls(np.empty(0, dtype=np.int64), columns)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def support_x(self) -> NDArray[Any]:
        """Inputs of the support examples."""
        return self.columns["support_x"]

    @property
    def support_y(self) -> NDArray[Any]:
        """Their labels or values."""
        return self.columns["support_y"]

    @property
    def query_x(self) -> NDArray[Any]:
        """Inputs of the query examples."""
        return self.columns["query_x"]

    @property
    def query_y(self) -> NDArray[Any]:
        """Their labels or values."""
        return self.columns["query_y"]

    @property
    def schema(self) -> Schema:
        """Of its columns."""
        return {name: Column.of(array) for name, array in self.columns.items()}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """``ids`` and the columns, by name."""
        return {"ids": self.ids, **self.columns}


def stack(parts: Sequence[EpisodeBatch]) -> EpisodeBatch:
    """Concatenate batches along the task axis."""
    if len(parts) == 1:
        return parts[0]
    columns = {n: np.concatenate([p.columns[n] for p in parts]) for n in parts[0].columns}
    return EpisodeBatch(np.concatenate([p.ids for p in parts]), columns)


@dataclass(frozen=True)
class Identity:
    """What decides an episode's bits beside its index. Equal identities, equal episodes.

    Attributes:
        kind: ``images``, ``function``, or what another source calls its own.
        dataset, dataset_digest: what the episodes are drawn from.
        payload: what else decides them, JSON-able; empty for images and functions.
    """

    kind: str
    dataset: str
    dataset_digest: str
    part: Part
    seed: int
    spec: EpisodeSpec
    generator: int = GENERATOR_VERSION
    payload: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able form; a payload that is empty goes without saying."""
        fields = {**vars(self), "spec": self.spec.as_dict(), "payload": dict(self.payload)}
        return {name: value for name, value in fields.items() if name != "payload" or value}

    @property
    def digest(self) -> str:
        """SHA-256 over all fields."""
        return sha256_bytes(canonical_json(self.as_dict()))


class EpisodeSource(Protocol):
    """Random access to an endless list of episodes."""

    @property
    def identity(self) -> Identity:
        """What decides the bits of episode ``id`` beside ``id``."""

    @property
    def schema(self) -> Schema:
        """The columns of every episode."""

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order."""
