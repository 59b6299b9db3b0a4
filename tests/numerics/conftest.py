"""Fixtures of the numerical tests: a group of workers in threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import pytest
import torch
from torch import Tensor

from metadist.compute.collectives import Group

T = TypeVar("T")


class _Meeting:
    """Where the workers of a simulated group meet: a slot each, and a barrier."""

    def __init__(self, size: int) -> None:
        self.slots: list[Tensor] = [torch.empty(0)] * size
        self.barrier = threading.Barrier(size, timeout=60)


class _Simulated:
    """One worker of a group whose collectives really combine the workers' tensors.

    It refuses what gloo would not survive: a NaN or an infinity in a floating-point maximum.
    """

    def __init__(self, rank: int, size: int, meeting: _Meeting, order: Sequence[int]) -> None:
        self.rank = rank
        self.size = size
        self._meeting = meeting
        self._order = order

    def _combine(self, tensor: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._meeting.slots[self.rank] = tensor.clone()
        self._meeting.barrier.wait()
        result = self._meeting.slots[self._order[0]]
        for other in self._order[1:]:
            result = operation(result, self._meeting.slots[other])
        self._meeting.barrier.wait()
        tensor.copy_(result)

    def max_(self, tensor: Tensor) -> None:
        assert bool(torch.isfinite(tensor).all()), "a number that is not finite got into MAX"
        self._combine(tensor, torch.maximum)

    def sum_(self, tensor: Tensor) -> None:
        self._combine(tensor, torch.add)

    def broadcast(self, value: Any) -> Any:
        raise AssertionError("a simulated group has no broadcast")

    def broadcast_tensors(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        raise AssertionError("a simulated group has no broadcast")


class RunGroup(Protocol):
    """``run_group(size, work)``: what ``work(group)`` returns on each rank of a group."""

    def __call__(
        self, size: int, work: Callable[[Group], T], order: Sequence[int] | None = None
    ) -> list[T]: ...


@pytest.fixture(scope="session")
def run_group() -> RunGroup:
    """Run a function on every worker of a simulated group, each in a thread of its own.

    ``order`` is the order in which the group adds the workers' tensors.
    """

    def run(size: int, work: Callable[[Group], T], order: Sequence[int] | None = None) -> list[T]:
        meeting = _Meeting(size)
        results: dict[int, T] = {}
        errors: list[BaseException] = []

        def worker(rank: int) -> None:
            try:
                results[rank] = work(_Simulated(rank, size, meeting, order or range(size)))
            except BaseException as error:
                errors.append(error)
                meeting.barrier.abort()

        threads = [threading.Thread(target=worker, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        real = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
        if errors:
            raise (real or errors)[0]
        return [results[rank] for rank in range(size)]

    return run
