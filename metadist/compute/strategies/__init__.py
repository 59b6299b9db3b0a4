"""The gradient of one chunk of tasks: the atom of work, with the same bits wherever it runs.

``loop`` takes one task at a time on the tape. ``vmap`` takes the tasks of a chunk together with
``vmap(grad(...))``, vmap outermost: the form whose second-order gradient is right through fused
batch normalisation. In both, a chunk is always computed whole and in the same shapes.
"""

from __future__ import annotations

from typing import Literal

from metadist.compute.strategies.chunk import ChunkResult, GradientStrategy
from metadist.compute.strategies.loop import Loop
from metadist.compute.strategies.vmap import Vmap

__all__ = ["ChunkResult", "GradientStrategy", "Loop", "Vmap", "strategy"]


def strategy(mode: Literal["loop", "vmap"], chunk: int) -> GradientStrategy:
    """The strategy that a recipe names, for chunks of so many tasks."""
    return Vmap(chunk) if mode == "vmap" else Loop()
