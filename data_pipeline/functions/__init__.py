"""Functions to regress: families, one module each, found by their module name.

A module exports ``SPEC`` and ``draw(stream, points, part)``; an episode is one function of the
family with K support and Q query points. What families share lies in modules whose names begin
with an underscore.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from data_pipeline import registry
from data_pipeline.datasets import Part
from data_pipeline.episodes.types import (
    GENERATOR_VERSION,
    EpisodeBatch,
    EpisodeSpec,
    Identity,
    stack,
)
from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold
from data_pipeline.storage.local import canonical_json, sha256_bytes

#: x [points, inputs], y [points, outputs] and the true parameters [L] of one function.
Drawn = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class FunctionSpec:
    """What a family of functions is.

    Attributes:
        name: the module's name, which is the family's name in a recipe.
        inputs, outputs: dimensions of x and y.
        latent: names of the true parameters, in the order of ``latent``.
        version: part of the digest.
        floor: E Var[y|x] over test tasks, noise included: the mean squared error below which no
            predictor can be that does not see the support. None where it is not known.
    """

    name: str
    summary: str
    inputs: int
    outputs: int
    latent: tuple[str, ...]
    version: int
    citation: str = ""
    floor: float | None = None


class FunctionFamily(Protocol):
    """What a module in this package exports."""

    SPEC: FunctionSpec

    def draw(self, stream: Stream, points: int, part: Part) -> Drawn:
        """One function at ``points`` inputs: x [points, inputs], y [points, outputs], latent [L].

        The parameters and the first n points must not depend on ``points``. Parts have streams of
        their own; ``part`` is for families whose test tasks are others than those of training.
        """


def names() -> list[str]:
    """Names of all families, sorted: those of this package, and those from outside."""
    return registry.names(sys.modules[__name__])


def load(name: str) -> FunctionFamily:
    """The family called ``name``.

    Raises:
        DataError: no such family (the message names the nearest), or one from outside that
            cannot be used.
    """
    return cast(FunctionFamily, registry.load(sys.modules[__name__], name, "function family"))


def family_digest(spec: FunctionSpec) -> str:
    """What stands for the dataset digest of a family: its name and version."""
    return sha256_bytes(canonical_json(["function", spec.name, spec.version]))


class FunctionEpisodes:
    """K-shot regression episodes of one family.

    Training, validation and test functions come from separate streams of the same family.

    Raises:
        DataError: the episode's shape does not fit a function family.
    """

    def __init__(self, name: str, part: Part, spec: EpisodeSpec, seed: int) -> None:
        self._family = load(name)
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
        if spec.shots < 1 or spec.queries < 1:
            raise DataError(f"episodes need shots >= 1 and queries >= 1, got {spec}")
        digest = family_digest(self._family.SPEC)
        self.identity = Identity("function", name, digest, part, seed, spec)
        self._spec = spec
        self._part: Part = part
        self._key = fold("function", GENERATOR_VERSION, digest, part, seed)

    def _one(self, index: int) -> EpisodeBatch:
        shots = self._spec.shots
        points = shots + self._spec.queries
        x, y, latent = self._family.draw(Stream(self._key, index), points, self._part)
        return EpisodeBatch(
            ids=np.array([index], dtype=np.int64),
            support_x=x[None, :shots].astype(np.float32),
            support_y=y[None, :shots].astype(np.float32),
            query_x=x[None, shots:].astype(np.float32),
            query_y=y[None, shots:].astype(np.float32),
            latent=latent[None].astype(np.float64),
        )

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order."""
        return stack([self._one(int(i)) for i in ids])
