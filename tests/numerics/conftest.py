"""Fixtures of the numerical tests: a group of workers in threads of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import pytest

from metadist.compute.collectives import Group
from metadist.contracts import thread_group

T = TypeVar("T")


class RunGroup(Protocol):
    """``run_group(size, work)``: what ``work(group)`` returns on each rank of a group."""

    def __call__(
        self, size: int, work: Callable[[Group], T], order: Sequence[int] | None = None
    ) -> list[T]: ...


@pytest.fixture(scope="session")
def run_group() -> RunGroup:
    """Run a function on every worker of a simulated group, each in a thread of its own."""
    return thread_group.run_group
