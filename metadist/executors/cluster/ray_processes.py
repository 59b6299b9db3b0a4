"""The processes of a private Ray: who may end them, and that none of them stays.

They are not meant by the signals that end this process. A terminal, ``timeout``, ``scancel`` and
systemd signal a whole group of processes, or all that there are; Ray would be gone before the
workers have written their checkpoint. They end when this process has done with them, or with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray._private import services

from metadist.process.signals import HANGING

log = logging.getLogger(__name__)
#: Processes without which nothing works.
_CORE = ("gcs_server", "raylet")
#: Seconds for Ray to disconnect; where its processes have died, it waits for their answer.
_DISCONNECT, _HOPELESS = 10.0, 2.0
#: Seconds for workers to see that their Ray is gone.
_GRACE = 5.0
#: What asks for the port that a head here needs to run jobs, and what asks for any.
_PORT_OF_JOBS, _ANY_PORT = "--listen-port=52365", "--listen-port=0"


class RayProcess(services.ConsolePopen):
    """A process of Ray's in a session of its own; it and all that it starts block signals."""

    #: Those that were started and not seen to the end.
    alive: ClassVar[list[RayProcess]] = []

    def __init__(self, command: list[str], *, preexec_fn: Callable[[], None], **more: Any) -> None:
        def prepare() -> None:
            preexec_fn()  # Ray's own: block SIGINT, and end with the process that has started it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})

        command = [part.replace(_PORT_OF_JOBS, _ANY_PORT) for part in command]
        super().__init__(command, preexec_fn=prepare, start_new_session=True, **more)
        self.name = Path(command[0]).name
        self.alive.append(self)

    def terminate(self) -> None:
        """Ray would wait a second for each that ignores SIGTERM."""
        self.kill()

    def kill(self) -> None:
        """End it and its helpers; workers have groups of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def in_own_sessions() -> Iterator[None]:
    """What Ray starts in the block does not get the signals that this process gets."""
    before = services.ConsolePopen
    services.ConsolePopen = RayProcess  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        services.ConsolePopen = before  # type: ignore[misc]


def died() -> bool:
    """Whether a private Ray was started and is dead."""
    return any(one.name in _CORE and one.poll() is not None for one in RayProcess.alive)


def shut_down() -> None:
    """End a private Ray, whatever state it is in, and all its processes with it."""
    ending = threading.Thread(target=_disconnect, name="ray-shutdown", daemon=True)
    ending.start()
    ending.join(_HOPELESS if died() else _DISCONNECT)
    if ending.is_alive():
        HANGING.set()
    for one in RayProcess.alive:
        one.kill()
        one.wait()
    _end_workers({one.pid for one in RayProcess.alive})
    RayProcess.alive.clear()


def _end_workers(sessions: set[int]) -> None:
    """Wait for the workers, and end those that have not seen that they should."""
    deadline = time.monotonic() + _GRACE
    while left := list(_processes(sessions)):
        if time.monotonic() > deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def _processes(sessions: set[int]) -> Iterator[int]:
    """Who is alive in these sessions."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            if int(session) in sessions and state != "Z":
                yield int(stat.parent.name)


def _disconnect() -> None:
    try:
        ray.shutdown()
    except Exception as error:
        log.debug("Ray could not disconnect: %s", error)
