"""How a driver reaches the workers of a group on other machines: they ask an actor beside it.

It costs a process, so that only runs on a cluster and elastic ones have it.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metadist.training.run_control import Order

log = logging.getLogger(__name__)
#: Seconds that either side waits for an answer.
_PATIENCE = 5.0


class _Bell:
    """Holds what the driver wants, and on which nodes the workers are."""

    def __init__(self) -> None:
        self._order: Order = "go on"
        self._hosts: list[str] = []

    def clear(self) -> None:
        self._order = "go on"
        self._hosts = []

    def ring(self, order: Order) -> None:
        self._order = order

    def order(self) -> Order:
        """A checkpoint is wanted once; that the workers leave, until they have left."""
        order = self._order
        if order == "save":
            self._order = "go on"
        return order

    def here(self, node: str) -> None:
        self._hosts.append(node)

    def hosts(self) -> list[str]:
        return self._hosts


class Bell:
    """Lives beside the driver, for as long as its cluster is connected."""

    def __init__(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        make: Any = ray.remote(num_cpus=0)(_Bell)
        self._actor = make.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
        ).remote()

    def ring(self, order: Order) -> None:
        """Let the workers know; they ask about once a second."""
        self._actor.ring.remote(order)

    def clear(self) -> None:
        """Before a new group of workers: nothing is wanted of it yet."""
        self._actor.clear.remote()

    def hosts(self) -> list[str]:
        """The node of each worker that has joined the group; none if it does not answer."""
        with contextlib.suppress(RayError, GetTimeoutError):
            nodes: list[str] = ray.get(self._actor.hosts.remote(), timeout=_PATIENCE)
            return nodes
        return []

    @property
    def orders(self) -> RayOrders:
        """What workers ask."""
        return RayOrders(self._actor)


@dataclass(frozen=True)
class RayOrders:
    """Asks the driver's bell."""

    bell: Any

    def join(self) -> None:
        """Say that a worker of the group is on this node."""
        self.bell.here.remote(ray.get_runtime_context().get_node_id())

    def order(self) -> Order:
        """See :class:`metadist.training.run_control.Orders`."""
        try:
            order: Order = ray.get(self.bell.order.remote(), timeout=_PATIENCE)
        except (RayError, GetTimeoutError) as error:
            # Ray ends this process if the driver is gone; if it is only slow, training goes on.
            log.debug("the driver does not answer: %s", error)
            return "go on"
        return order
