"""Episodes of families of functions: support and query points of one function each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline import functions
from data_pipeline.datasets import Part
from data_pipeline.episodes.types import (
    GENERATOR_VERSION,
    Column,
    EpisodeBatch,
    EpisodeSpec,
    Identity,
    Schema,
    stack,
)
from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold


def _sizes(spec: EpisodeSpec) -> dict[str, int]:
    """Points of each set, in the order in which they are drawn."""
    sizes = {"support": spec.shots, "query": spec.queries, "unlabeled": spec.unlabeled}
    return {name: size for name, size in sizes.items() if size}


def points_schema(spec: EpisodeSpec, inputs: int, outputs: int, latent: int) -> Schema:
    """The columns of episodes of a family with x [inputs], y [outputs] and latent [latent]."""
    sides = {"x": inputs, "y": outputs}
    points = {
        f"{name}_{side}": Column("float32", (size, dimension))
        for name, size in _sizes(spec).items()
        for side, dimension in sides.items()
    }
    return {**points, "latent": Column("float64", (latent,))}


class FunctionEpisodes:
    """K-shot regression episodes of one family.

    Training, validation and test functions come from separate streams of the same family.
    Unlabeled points are those that follow after the query points, which do not depend on how many
    follow.

    Raises:
        DataError: the episode's shape does not fit a function family.
    """

    def __init__(self, name: str, part: Part, spec: EpisodeSpec, seed: int) -> None:
        self._family = functions.load(name)
        if spec.ways != 0 or spec.rotations != "none":
            raise DataError(
                f"{name} is a regression family: it has no ways and no rotations; data.ways 0 "
                "and data.rotations 'none' are needed"
            )
        if spec.labels != "permuted":
            raise DataError(
                f"{name} is a regression family: it has no labels, data.labels 'permuted' is "
                f"needed, got {spec.labels!r}; a family whose training tasks can be told from the "
                "input alone is 'sinusoid_fixed'"
            )
        if (spec.within, spec.drawer) != ("all", "any"):
            raise DataError(
                f"{name} is a regression family: it has no classes in groups and no drawers; "
                f"within 'all' and drawer 'any' are needed, got {spec.within!r}, {spec.drawer!r}"
            )
        spec.check_sizes()
        if spec.distractors:
            raise DataError(
                f"{name} is a regression family: it has no distractor classes; data.distractors 0 "
                f"is needed, got {spec.distractors}"
            )
        digest = functions.family_digest(self._family.SPEC)
        self.identity = Identity("function", name, digest, part, seed, spec)
        self._part: Part = part
        self._key = fold("function", GENERATOR_VERSION, digest, part, seed)
        self._spec = spec
        known = self._family.SPEC
        self.schema = points_schema(spec, known.inputs, known.outputs, len(known.latent))

    def _one(self, index: int) -> EpisodeBatch:
        sizes = _sizes(self._spec)
        points = sum(sizes.values())
        x, y, latent = self._family.draw(Stream(self._key, index), points, self._part)
        columns: dict[str, NDArray[Any]] = {}
        start = 0
        for name, size in sizes.items():
            for side, values in (("x", x), ("y", y)):
                columns[f"{name}_{side}"] = values[None, start : start + size].astype(np.float32)
            start += size
        columns["latent"] = latent[None].astype(np.float64)
        return EpisodeBatch(np.array([index], dtype=np.int64), columns)

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order."""
        return stack([EpisodeBatch.empty(self.schema), *(self._one(int(i)) for i in ids)])
