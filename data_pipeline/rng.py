"""Random numbers: integers and uniforms whose bits never change.

NumPy freezes the raw output of ``Philox`` but not the streams of ``Generator.choice``,
``permutation`` or ``normal``. Everything drawn for an episode therefore comes from
``Philox.random_raw`` through the integer arithmetic in this file.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256
_MASK64 = (1 << 64) - 1


def fold(*parts: str | int) -> int:
    """A 128-bit key from names and integers; different sequences of parts give different keys."""
    # The repr of each part keeps ("1",) and (1,) and ("a", "b") and ("ab",) apart.
    digest = hashlib.sha256("\x1f".join(repr(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:16], "little")


class Stream:
    """A counter-based stream of random numbers: a pure function of ``(key, index)``.

    Args:
        key: 128-bit integer from :func:`fold`.
        index: which of the 2**64 independent streams of that key.
    """

    __slots__ = ("_at", "_bits", "_buffer")

    def __init__(self, key: int, index: int = 0) -> None:
        # The index is the second counter word: streams are 2**64 blocks apart and never meet.
        self._bits = np.random.Philox(
            key=np.array([key & _MASK64, key >> 64], dtype=np.uint64),
            counter=np.array([0, index, 0, 0], dtype=np.uint64),
        )
        self._buffer: list[int] = []
        self._at = 0

    def raw(self) -> int:
        """The next 64 random bits."""
        if self._at == len(self._buffer):
            self._buffer = self._bits.random_raw(_BLOCK).tolist()
            self._at = 0
        value: int = self._buffer[self._at]
        self._at += 1
        return value

    def below(self, bound: int) -> int:
        """A uniform integer in ``[0, bound)``, exactly uniform (Lemire's method with rejection).

        Raises:
            ValueError: ``bound`` is not in ``[1, 2**63]``.
        """
        if not 1 <= bound <= 1 << 63:
            raise ValueError(f"bound must lie in [1, 2**63], got {bound}")
        product = self.raw() * bound
        low = product & _MASK64
        if low < bound:
            threshold = ((1 << 64) - bound) % bound
            while low < threshold:
                product = self.raw() * bound
                low = product & _MASK64
        return product >> 64

    def sample(self, population: int, count: int) -> list[int]:
        """``count`` distinct integers of ``[0, population)`` in random order.

        A partial Fisher-Yates shuffle: the first k of a longer sample from an equal stream are
        the sample of size k.

        Raises:
            ValueError: ``count`` exceeds ``population``.
        """
        if count > population:
            raise ValueError(f"cannot draw {count} distinct items from {population}")
        moved: dict[int, int] = {}
        chosen = []
        for position in range(count):
            other = position + self.below(population - position)
            chosen.append(moved.get(other, other))
            moved[other] = moved.get(position, position)
        return chosen

    def permutation(self, count: int) -> list[int]:
        """The integers ``[0, count)`` in random order."""
        return self.sample(count, count)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """``count`` uniform numbers in ``[0, 1)`` on the grid of 2**-53, float64."""
        raw = np.array([self.raw() >> 11 for _ in range(count)], dtype=np.uint64)
        return raw.astype(np.float64) * 2.0**-53
