"""How a driver reaches the workers of a group: they ask an actor, or look for a file."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metadist.training.run_control import Command, Progress

log = logging.getLogger(__name__)
#: Seconds that either side waits for an answer.
_PATIENCE = 5.0


class _Actor:
    """Holds what the driver wants, and on which nodes the workers are."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._command: Command = "go"
        self._nodes: list[str] = []

    def send(self, command: Command) -> None:
        self._command = command

    def command(self) -> Command:
        """A checkpoint is wanted once; that the workers yield, until they have."""
        command = self._command
        if command == "save":
            self._command = "go"
        return command

    def join(self, node: str) -> None:
        self._nodes.append(node)

    def nodes(self) -> list[str]:
        return self._nodes


@dataclass(frozen=True)
class ControlActor:
    """For workers on other machines, a handle of the actor: the driver sends, they ask with a copy.

    It costs a process, so that only runs on a cluster and elastic ones have it.
    """

    actor: Any
    judges = False

    @classmethod
    def start(cls) -> ControlActor:
        """An actor that lives beside this process, for as long as its cluster is connected."""
        here = ray.get_runtime_context().get_node_id()
        beside = NodeAffinitySchedulingStrategy(here, soft=False)
        remote: Any = ray.remote(num_cpus=0)(_Actor)
        return cls(remote.options(scheduling_strategy=beside).remote())

    def send(self, command: Command) -> None:
        """Let the workers know; they ask about once a second."""
        self.actor.send.remote(command)

    def clear(self) -> None:
        """Before a new group of workers: nothing is wanted of it yet."""
        self.actor.clear.remote()

    def nodes(self) -> list[str]:
        """The node of each worker that has joined the group; none if it does not answer."""
        with contextlib.suppress(RayError):
            return cast(list[str], ray.get(self.actor.nodes.remote(), timeout=_PATIENCE))
        return []

    def join(self) -> None:
        """Say that a worker of the group is on this node."""
        self.actor.join.remote(ray.get_runtime_context().get_node_id())

    def command(self, progress: Progress) -> Command:
        try:
            return cast(Command, ray.get(self.actor.command.remote(), timeout=_PATIENCE))
        except RayError as error:
            # Ray ends this process if the driver is gone; if it is only slow, training goes on.
            log.debug("the driver does not answer: %s", error)
            return "go"


@dataclass(frozen=True)
class ControlFile:
    """For workers on this machine: while the file is there, they are to yield."""

    path: Path
    judges = False

    def send_yield(self) -> None:
        """Let the workers know; they look about once a second."""
        self.path.touch()

    def clear(self) -> None:
        """Nothing is wanted, or not any more."""
        self.path.unlink(missing_ok=True)

    def command(self, progress: Progress) -> Command:
        return "yield" if self.path.exists() else "go"
