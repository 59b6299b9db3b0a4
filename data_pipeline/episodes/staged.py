"""Sources whose episodes depend on what has been learned: rollouts by the current policy.

A *staged* source gives its training episodes stage by stage. Stage k is outer steps
``[k * stages, (k + 1) * stages)``; its episodes are a pure function of the source's identity, the
number k, the parameters before its first step, and the episode's id. So all workers of any number
draw the same ones, and a run that is resumed in the middle of a stage draws them again from the
parameters that its checkpoint keeps for that purpose.

Whoever reads them keeps the parameters from the first step of a stage (:meth:`Stage.at`) to its
end, in checkpoints too, and reads nothing ahead of the stage that :func:`open_stage` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from data_pipeline.episodes.types import EpisodeSource, Identity, Schema
from data_pipeline.errors import DataError

#: Parameters by name, as NumPy arrays.
Parameters = Mapping[str, NDArray[Any]]


@runtime_checkable
class StagedSource(Protocol):
    """Training episodes that depend on the parameters before the first step of each stage."""

    @property
    def identity(self) -> Identity:
        """What decides the episodes beside stage and parameters."""

    @property
    def schema(self) -> Schema:
        """The columns of every episode, of all stages alike."""

    @property
    def stages(self) -> int:
        """Outer steps of one stage, at least 1."""

    def stage(self, number: int, params_digest: str, params: Parameters) -> EpisodeSource:
        """The episodes of a stage, a function of nothing but these and the identity.

        Its identity is :func:`staged_identity` of this source's.

        Args:
            number: which stage, from 0.
            params_digest: SHA-256 of the parameters.
            params: before the stage's first step; not to be changed.
        """


def staged_identity(identity: Identity, number: int, params_digest: str) -> Identity:
    """The identity of a stage's episodes."""
    stage = {"stage": number, "params_sha256": params_digest}
    return replace(identity, payload={**identity.payload, **stage})


@dataclass(frozen=True)
class Stage:
    """One stage: outer steps ``first`` to ``stop - 1``."""

    number: int
    first: int
    stop: int

    @classmethod
    def at(cls, source: StagedSource, step: int) -> Stage:
        """The stage that an outer step belongs to.

        Raises:
            DataError: the source's stages have no steps.
        """
        if source.stages < 1:
            raise DataError(
                f"{source.identity.dataset}: a stage has at least 1 outer step, its source says "
                f"stages = {source.stages}"
            )
        number = step // source.stages
        return cls(number, number * source.stages, (number + 1) * source.stages)


def open_stage(
    source: StagedSource, stage: Stage, params_digest: str, params: Parameters
) -> EpisodeSource:
    """The episodes of a stage.

    Raises:
        DataError: they have another identity or schema than those of this stage.
    """
    opened = source.stage(stage.number, params_digest, params)
    wanted = staged_identity(source.identity, stage.number, params_digest)
    for what, got, demanded in (
        ("identity", opened.identity.as_dict(), wanted.as_dict()),
        ("schema", dict(opened.schema), dict(source.schema)),
    ):
        if got != demanded:
            raise DataError(
                f"{source.identity.dataset}: stage {stage.number} has the {what} {got}, "
                f"{demanded} is needed"
                + ("; staged_identity() makes it" if what == "identity" else "")
            )
    return opened
