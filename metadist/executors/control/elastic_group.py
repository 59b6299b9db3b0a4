"""What the driver watches while workers train on a cluster: nodes that come, and that will go."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from data_pipeline.timeouts import seconds_of
from metadist.errors import RunError
from metadist.executors.cluster.resources import room
from metadist.executors.control.channels import ControlActor
from metadist.executors.world_size import WorldSize
from metadist.process.announce import Announce
from metadist.process.polling import Polling

log = logging.getLogger(__name__)
#: Seconds between two checkpoints while a node of a group of fixed size is about to go.
_SAVE_EVERY = 10.0


def draining_nodes() -> set[str]:
    """Ids of the nodes that Ray has been told will go (a spot notice, a drain).

    Ray's own trainer asks the same. What it offers in public (``ray.train.get_preemption_info``,
    of newer versions only) answers within a worker, as a barrier of all of them, with a process of
    its own for each group; the driver, which decides whether the group is to shrink, cannot ask it.
    """
    try:
        from ray._private.state import state

        nodes: dict[str, Any] = state.get_draining_nodes()
    except Exception as error:
        log.debug("draining nodes are not known: %s", error)
        return set()
    return set(nodes)


@dataclass
class ElasticGroup(Polling):
    """Has the group yield to one of a better size, or write a checkpoint before a node goes.

    Attributes:
        actor: how the workers are reached.
        size: of the run, and ``workers`` of the group that trains now.
        resources: what each worker reserves.
        asked: set when the driver was asked to end.
        reason: why the group was told to yield.
    """

    actor: ControlActor
    size: WorldSize
    workers: int
    resources: dict[str, float]
    asked: threading.Event
    announce: Announce
    reason: str | None = field(default=None, init=False)

    interval = 1.0

    def __post_init__(self) -> None:
        self._rest = seconds_of("METADIST_RESIZE_EVERY_S", 60.0, RunError)
        self._began: float | None = None
        self._saved = -_SAVE_EVERY
        self._seen = 0
        self._known: set[str] = set()

    def look(self) -> None:
        if self.reason is not None:
            return
        if self.asked.is_set():
            self._yield("asked to end")
            return
        try:
            self._watch_nodes()
            if self.size.elastic and self.reason is None:
                self._grow()
        except Exception as error:  # a head that is away; the workers will tell
            log.debug("the cluster cannot be looked at: %s", error)

    def last(self) -> None:
        """Nothing: the group has ended."""

    def _watch_nodes(self) -> None:
        going = draining_nodes()
        if going:
            going &= set(self.actor.nodes())
        if new := going - self._known:
            self._known |= new
            self.announce(
                f"Notice: {len(new)} of the workers' nodes will be taken away; checkpoint now"
            )
        if not going:
            return
        if self.size.elastic:
            self._yield("a node is about to be taken away")
        elif time.monotonic() - self._saved >= _SAVE_EVERY:
            self._saved = time.monotonic()
            self.actor.send("save")

    def _grow(self) -> None:
        if self._began is None:
            # Until the group stands, Ray still counts as free what it is about to take.
            if len(self.actor.nodes()) == self.workers:
                self._began = time.monotonic()
            return
        more = min(room(self.resources), self.size.high - self.workers)
        # Twice in a row: what has just been freed may be about to be taken again.
        settled, self._seen = min(more, self._seen), more
        if settled > 0 and time.monotonic() - self._began >= self._rest:
            self._yield(f"there is room for {self.workers + settled} workers")

    def _yield(self, reason: str) -> None:
        self.reason = reason
        self.actor.send("yield")
