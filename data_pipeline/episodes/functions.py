"""Episodes of families of functions: support and query points of one function each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_pipeline import functions
from data_pipeline.datasets import Part
from data_pipeline.episodes.types import GENERATOR_VERSION, EpisodeBatch, EpisodeSpec, Identity
from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold


class FunctionEpisodes:
    """K-shot regression episodes of one family.

    Training, validation and test functions come from separate streams of the same family.

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
        if spec.shots < 1 or spec.queries < 1:
            raise DataError(f"episodes need shots >= 1 and queries >= 1, got {spec}")
        digest = functions.family_digest(self._family.SPEC)
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
        drawn = [self._one(int(i)).arrays() for i in ids]
        return EpisodeBatch(**{n: np.concatenate([one[n] for one in drawn]) for n in drawn[0]})
