"""Which episode a run reads at position p of its walk through a bank of episodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes.types import BLOCK, GENERATOR_VERSION
from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold


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
        if block not in self._inside:
            stream = Stream(self._inside_key, (self._epoch << 32) + block)
            self._inside[block] = stream.permutation(self._size(block))
        return block * BLOCK + self._inside[block][offset - int(self._starts[place])]

    def _size(self, block: int) -> int:
        return min(BLOCK, (self.length or 0) - block * BLOCK)

    def _enter(self, epoch: int) -> None:
        blocks = -(-(self.length or 0) // BLOCK)
        self._order = Stream(self._blocks_key, epoch).permutation(blocks)
        sizes = [self._size(block) for block in self._order]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        self._inside = {}
        self._epoch = epoch
