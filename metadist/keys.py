"""Stateless random keys: numbers that depend on names, never on what was drawn before.

A key is made from the run's seed and folded with names and numbers (step, episode id, purpose).
Everything random in learning is drawn from such a key on the CPU before a chunk of tasks runs, so
that recomputation, batching, another worker and finite differences all see the same numbers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from data_pipeline.rng import fold

Made = TypeVar("Made")
#: One module at a time is made with a key in the place of the process's only generator.
_drawing = threading.RLock()


@dataclass(frozen=True, slots=True)
class Key:
    """A 128-bit key of a counter-based random generator (Philox)."""

    value: int

    @classmethod
    def of(cls, *names: str | int) -> Key:
        """The key of a sequence of names and integers."""
        return cls(fold(*names))

    def fold(self, *names: str | int) -> Key:
        """A key that depends on this one and on ``names``."""
        return Key(fold(self.value, *names))

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Uniform numbers in (0, 1), never 0 or 1 in float64, on the CPU."""
        bits = np.random.Philox(
            key=np.array([self.value & ((1 << 64) - 1), self.value >> 64], dtype=np.uint64)
        )
        raw = np.atleast_1d(bits.random_raw(math.prod(shape))).astype(np.uint64)
        numbers = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        # The largest of them would round up to 1.
        numbers = np.minimum(numbers, 1.0 - 2.0**-53)
        return torch.from_numpy(numbers).reshape(tuple(shape)).to(dtype)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Standard normal numbers by inversion of their distribution function, on the CPU."""
        u = self.uniform(shape, torch.float64)
        return (math.sqrt(2.0) * torch.erfinv(2.0 * u - 1.0)).to(dtype)

    def truncated_normal(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """Standard normal numbers truncated to [-2, 2], on the CPU."""
        edge = math.erf(math.sqrt(2.0))
        u = self.uniform(shape, torch.float64)
        return (math.sqrt(2.0) * torch.erfinv(edge * (2.0 * u - 1.0))).to(dtype)

    def module(self, make: Callable[[], Made]) -> Made:
        """What ``make`` returns, with this key in the place of torch's own generator.

        For modules that initialise themselves: their parameters then depend on the key alone. They
        are made on the CPU; torch's generator is afterwards as it was before.

            net = key.module(lambda: torch.nn.Linear(28, 5))
        """
        generator = torch.default_generator
        with _drawing:
            before, threads = generator.get_state(), torch.get_num_threads()
            generator.manual_seed(self.value & ((1 << 63) - 1))
            # The bits of an orthogonal initialisation depend on the number of threads.
            torch.set_num_threads(1)
            try:
                with torch.device("cpu"):
                    return make()
            finally:
                torch.set_num_threads(threads)
                generator.set_state(before)
