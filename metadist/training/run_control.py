"""What somebody outside wants of a run while it trains: a checkpoint, or that its workers leave."""

from __future__ import annotations

import time
from typing import Literal, Protocol

from metadist.compute.collectives import Group

#: ``save``: write a checkpoint and go on. ``leave``: write one and end, to be continued by others.
Order = Literal["go on", "save", "leave"]
#: Seconds between two questions.
PACE = 1.0
#: Steps between two questions at most.
_MOST_STEPS = 1000


class Orders(Protocol):
    """Whoever knows what becomes of the workers: nodes that join, or are about to be taken away.

    It travels to all workers; rank 0 asks.
    """

    def order(self) -> Order:
        """What is wanted now. It must not raise, and answers within seconds."""


class Heed:
    """Makes all workers do what rank 0 is told, after the same step.

    Asking after each step would cost a broadcast each time; about once a second is enough. With
    each answer rank 0 says after which step it asks again.

    Args:
        orders: None: nobody is asked, and nothing is sent. The same on all workers.
        group: all workers.
    """

    def __init__(self, orders: Orders | None, group: Group) -> None:
        self._orders = orders
        self._group = group
        self._due = 0
        self._asked: tuple[int, float] | None = None

    def after(self, step: int) -> Order:
        """What is to be done after a step; every worker calls it after every step.

        Args:
            step: outer steps done.
        """
        if self._orders is None or step < self._due:
            return "go on"
        answer = None
        if self._group.rank == 0:
            answer = {"order": self._orders.order(), "due": step + self._steps_in_a_pace(step)}
        told = self._group.broadcast(answer)
        self._due = int(told["due"])
        order: Order = told["order"]
        return order

    def _steps_in_a_pace(self, step: int) -> int:
        now = time.monotonic()
        before, self._asked = self._asked, (step, now)
        if before is None:
            return 1
        seconds = max(now - before[1], 1e-6) / max(step - before[0], 1)
        return min(max(int(PACE / seconds), 1), _MOST_STEPS)
