"""What an episode is: its shape, its arrays, what decides its bits, and who draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from data_pipeline.datasets import Part
from data_pipeline.storage.local import canonical_json, sha256_bytes

#: Version of everything in ``episodes`` that decides an episode's bits.
GENERATOR_VERSION = 1
#: Episode ids are permuted in blocks of this many (see :mod:`data_pipeline.episodes.sequence`).
BLOCK = 64

#: Quarter turns of an image; a class id is TURNS x the class's index in its part + its turns.
TURNS = 4

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
        class_ids: int64 [T, N], see :data:`TURNS`; images only.
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
        return {name: value for name, value in vars(self).items() if value is not None}


def stack(parts: Sequence[EpisodeBatch]) -> EpisodeBatch:
    """Concatenate batches along the task axis."""
    if len(parts) == 1:
        return parts[0]
    names = parts[0].arrays()
    return EpisodeBatch(**{n: np.concatenate([p.arrays()[n] for p in parts]) for n in names})


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
