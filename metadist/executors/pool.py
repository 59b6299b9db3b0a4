"""Several jobs at once, each part of one a process of its own, stopped gently when it is time.

Where the processes are is another matter: :mod:`metadist.executors.local_process` has them on this
machine, :mod:`metadist.executors.cluster.remote_process` on the nodes of a cluster.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

#: Seconds between looks at the processes.
POLL_SECONDS = 0.2
#: Seconds that a process has to end after it was asked to: MLflow gets what is left to send.
GRACE_SECONDS = 40.0


@dataclass(frozen=True)
class Command:
    """A command line, or whatever a start knows to begin, and what it does, for people."""

    arguments: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Job:
    """Commands to run one after the other; the next only if the last one ended well.

    Attributes:
        log: file of what command lines say.
    """

    name: str
    commands: tuple[Command, ...]
    log: Path | None = None


class Process(Protocol):
    """A command at work."""

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended; waits for that at most so many seconds."""

    def failure(self) -> Exception | None:
        """What it has ended with."""

    def ask(self) -> None:
        """Ask it to end, as Ctrl-C does."""

    def kill(self) -> None:
        """End it, if it has not ended, and whatever it has started."""


State = Literal["done", "failed", "stopped", "waiting"]
#: Starts the command of a job that has this index; OSError if it cannot.
Start = Callable[[Job, int], Process]


@dataclass(frozen=True)
class CommandResult:
    """How a job ended.

    Attributes:
        state: ``stopped``: by us, while it was running; ``waiting``: it was never started.
        why: one line, if it did not end well.
        error: what a job that has failed has ended with.
    """

    state: State
    why: str = ""
    seconds: float = 0.0
    error: Exception | None = None


@dataclass(eq=False)
class Active:
    """A job at work."""

    job: Job
    began: float = field(default_factory=time.monotonic)
    index: int = 0
    process: Process = field(init=False)

    @property
    def command(self) -> Command:
        """What it is doing."""
        return self.job.commands[self.index]


class Watcher:
    """Somebody who may want to know what happens."""

    def started(self, job: Job) -> None:
        """A job has begun."""

    def ended(self, job: Job, result: CommandResult) -> None:
        """A job has ended, or will not be started."""

    def looked(self, active: Sequence[Active], waiting: int) -> None:
        """The processes were looked at: these are at work, so many jobs wait."""


@dataclass
class Pool:
    """Runs jobs, ``at_once`` of them at a time.

    Attributes:
        start: where processes are started.
        deadline: ``time.monotonic()`` after which nothing is started and what runs is stopped.
        watch: is told what happens.
        go_on: start more after one has failed.
        outcomes: how jobs have ended so far.
    """

    start: Start
    at_once: int = 1
    deadline: float = math.inf
    watch: Watcher = field(default_factory=Watcher)
    go_on: bool = True
    outcomes: dict[str, CommandResult] = field(default_factory=dict, init=False)
    _waiting: deque[Job] = field(default_factory=deque, init=False)
    _active: list[Active] = field(default_factory=list, init=False)
    _kill_at: float | None = field(default=None, init=False)

    def run(self, jobs: Sequence[Job]) -> dict[str, CommandResult]:
        """Run them all, and say of each how it ended.

        However this is left, no process of its own is left behind. Call it in the main thread: the
        system ends the processes of a machine with the thread that has started them.
        """
        self._waiting.extend(jobs)
        try:
            while self._waiting or self._active:
                if time.monotonic() >= self.deadline:
                    self._stop()
                    self._cancel("the time was up")
                while self._waiting and len(self._active) < self.at_once:
                    self._begin(self._waiting.popleft())
                for active in list(self._active):
                    self._look(active)
                self.watch.looked(self._active, len(self._waiting))
                if self._active:
                    time.sleep(POLL_SECONDS)
        finally:
            self._stop()
            self._wait()
        return self.outcomes

    def _begin(self, job: Job) -> None:
        active = Active(job)
        self.watch.started(job)
        with contextlib.suppress(OSError):  # who writes to it will say so
            if job.log is not None:
                job.log.parent.mkdir(parents=True, exist_ok=True)
                job.log.unlink(missing_ok=True)
        self._next(active)

    def _next(self, active: Active) -> None:
        """Start the command that a job has come to."""
        try:
            active.process = self.start(active.job, active.index)
        except OSError as error:  # a full disk, or no such command
            self._failed(active, error, f"{active.job.log}: {error.strerror}")
        else:
            if active not in self._active:
                self._active.append(active)

    def _look(self, active: Active) -> None:
        process, stopping = active.process, self._kill_at is not None
        if not process.ended():
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                process.kill()
            return
        error, last = process.failure(), active.index + 1 == len(active.job.commands)
        if error is None and last:
            self._end(active, "done")
        elif stopping:
            self._end(active, "stopped", f"the time was up while {active.command.what}")
        elif error is None:
            active.index += 1
            self._next(active)
        else:
            see = f"; see {active.job.log}" if active.job.log else ""
            self._failed(active, error, f"{error} ({active.command.what}{see})")

    def _failed(self, active: Active, error: Exception, why: str) -> None:
        self._end(active, "failed", why, error)
        if not self.go_on:
            self._cancel("another one has failed")

    def _end(
        self, active: Active, state: State, why: str = "", error: Exception | None = None
    ) -> None:
        if active in self._active:
            self._active.remove(active)
        seconds = time.monotonic() - active.began
        self._note(active.job, CommandResult(state, why, seconds, error))

    def _cancel(self, why: str) -> None:
        """Start nothing more."""
        while self._waiting:
            self._note(self._waiting.popleft(), CommandResult("waiting", why))

    def _note(self, job: Job, result: CommandResult) -> None:
        self.outcomes[job.name] = result
        self.watch.ended(job, result)

    def _stop(self) -> None:
        """Ask every process to end, once."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + GRACE_SECONDS
            for active in self._active:
                active.process.ask()

    def _wait(self) -> None:
        """Until every process has ended; another interrupt means at once."""
        try:
            for active in self._active:
                active.process.ended(max((self._kill_at or 0.0) - time.monotonic(), 0.0))
        finally:
            for active in list(self._active):
                active.process.kill()
                self._end(active, "stopped", "interrupted")
