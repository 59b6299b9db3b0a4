"""Functions to regress: families, one module each, found by their module name.

A module exports ``SPEC`` and ``draw(stream, points, part)``; an episode is one function of the
family with K support and Q query points. What families share lies in modules whose names begin
with an underscore.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from data_pipeline import registry
from data_pipeline.datasets import Part
from data_pipeline.rng import Stream
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
