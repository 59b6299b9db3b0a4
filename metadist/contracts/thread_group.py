"""Several workers in threads of one process, whose collectives really combine what they have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from metadist.compute.collectives import Group

T = TypeVar("T")


@dataclass(frozen=True)
class _Worker:
    """One of them.

    Attributes:
        slots: what each has brought to the present meeting.
        order: in which tensors are combined.
    """

    rank: int
    size: int
    slots: list[Any]
    barrier: threading.Barrier
    order: Sequence[int]

    def _meet(self, brought: Any) -> list[Any]:
        self.slots[self.rank] = brought
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found

    def _combine(self, tensor: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
        parts = self._meet(tensor.clone())
        result = parts[self.order[0]]
        for other in self.order[1:]:
            result = operation(result, parts[other])
        tensor.copy_(result)

    def max_(self, tensor: Tensor) -> None:
        # Which of several NaNs a maximum keeps depends on the order of ranks.
        assert bool(torch.isfinite(tensor).all()), "a number that is not finite got into MAX"
        self._combine(tensor, torch.maximum)

    def sum_(self, tensor: Tensor) -> None:
        self._combine(tensor, torch.add)

    def broadcast(self, value: Any) -> Any:
        return self._meet(value)[0]

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self._meet(tensors)[0]
        return {name: tensor.clone() for name, tensor in found.items()}


def run_group(size: int, work: Callable[[Group], T], order: Sequence[int] | None = None) -> list[T]:
    """What ``work(group)`` returns on each rank of a group; each runs in a thread of its own.

    Args:
        order: in which the group combines the workers' tensors; by rank if not given.

    Raises:
        BaseException: what a worker has raised.
    """
    slots: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=60)

    def worker(rank: int) -> T:
        try:
            return work(_Worker(rank, size, slots, barrier, order or range(size)))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(worker, rank) for rank in range(size)]
    # Those that waited for one that has failed have nothing of their own to say.
    waited = threading.BrokenBarrierError
    futures.sort(key=lambda future: isinstance(future.exception(), waited))
    return [future.result() for future in futures]
