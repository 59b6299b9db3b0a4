"""Several commands at once, each a process of its own, stopped gently when it is time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from metadist.process.imports import environment

#: Seconds between looks at the processes.
POLL_SECONDS = 0.2
#: Seconds that a process has to end after it was asked to: MLflow gets what is left to send.
GRACE_SECONDS = 40.0
#: One thread in each process: the bits are defined for one, and there are as many as cores.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PR_SET_PDEATHSIG = 1
#: Loaded before any fork: what runs between fork and exec should do as little as possible.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


@dataclass(frozen=True)
class Command:
    """A command line and, for people, what it does."""

    arguments: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Job:
    """Commands to run one after the other; the next only if the last one ended well."""

    name: str
    commands: tuple[Command, ...]


@dataclass(frozen=True)
class CommandResult:
    """How a job ended.

    Attributes:
        state: ``stopped``: by us, while it was running; ``waiting``: it was never started.
        why: one line, if it did not end well.
    """

    state: Literal["done", "failed", "stopped", "waiting"]
    why: str = ""
    seconds: float = 0.0


@dataclass
class Active:
    """A job at work."""

    job: Job
    log: Path
    began: float
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    index: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def command(self) -> Command:
        """What it is doing."""
        return self.job.commands[self.index]

    def start(self) -> None:
        """Start its present command; what it says is added to its log."""
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(self.command.arguments)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                self.command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ
                | environment()
                | dict.fromkeys(_THREADS, "1")
                | dict(self.environment),
                # A group of its own: a Ctrl-C in the terminal is for us to pass on, once.
                process_group=0,
                preexec_fn=_follow_parent(os.getpid()),
            )

    def kill(self) -> None:
        """End its process, and whatever that has started, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


def _follow_parent(parent: int) -> Callable[[], None]:
    """What a process does before it becomes the command: see that it ends when we are killed."""

    def follow() -> None:
        # Started in the background by a shell, we may have been told to ignore it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:  # it died before we could say so
                os._exit(1)

    return follow


class Watcher:
    """Somebody who may want to know what happens."""

    def started(self, job: Job) -> None:
        """A job has begun."""

    def ended(self, job: Job, result: CommandResult) -> None:
        """A job has ended, or will not be started."""

    def looked(self, active: Sequence[Active], waiting: int) -> None:
        """The processes were looked at: these are at work, so many jobs wait."""


class Jobs:
    """Runs jobs, ``at_once`` of them at a time.

    Args:
        logs: directory of what the commands say, a file for each job.
        deadline: ``time.monotonic()`` after which nothing is started and what runs is stopped.
        watch: is told what happens.
        environment: more variables for the commands; what is in them is written down nowhere.
    """

    def __init__(
        self,
        logs: Path,
        *,
        at_once: int = 1,
        deadline: float | None = None,
        watch: Watcher | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._logs = logs
        self._at_once = at_once
        self._deadline = deadline
        self._watch = watch or Watcher()
        self._environment = dict(environment or {})
        self._active: list[Active] = []
        self._outcomes: dict[str, CommandResult] = {}
        self._kill_at: float | None = None

    def run(self, jobs: Sequence[Job]) -> dict[str, CommandResult]:
        """Run them all, and say of each how it ended.

        However this is left, no process of its own is left behind. Call it in the main thread: the
        system ends the processes with the thread that has started them.
        """
        waiting = deque(jobs)
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            while waiting or self._active:
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._stop()
                    while waiting:
                        self._end(waiting.popleft(), CommandResult("waiting", "the time was up"))
                while waiting and len(self._active) < self._at_once:
                    self._begin(waiting.popleft())
                for active in list(self._active):
                    self._look(active)
                self._watch.looked(self._active, len(waiting))
                if self._active:
                    time.sleep(POLL_SECONDS)
        finally:
            self._stop()
            self._wait()
        return self._outcomes

    def _begin(self, job: Job) -> None:
        active = Active(job, self._logs / f"{job.name}.txt", time.monotonic(), self._environment)
        self._watch.started(job)
        try:
            active.log.unlink(missing_ok=True)
            active.start()
        except OSError as error:  # a full disk, or no such command
            self._end(job, CommandResult("failed", f"{active.log}: {error.strerror}"))
        else:
            self._active.append(active)

    def _look(self, active: Active) -> None:
        status = active.process.poll()
        if status is None:
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                active.kill()
            return
        more, why = active.index + 1 < len(active.job.commands), ""
        if status == 0 and more:
            active.index += 1
            if self._kill_at is None:
                try:
                    active.start()
                    return
                except OSError as error:
                    why = f"{active.log}: {error.strerror}"
        self._active.remove(active)
        seconds = time.monotonic() - active.began
        if status == 0 and not more:
            result = CommandResult("done", seconds=seconds)
        elif self._kill_at is not None:
            why = f"the time was up while {active.command.what}"
            result = CommandResult("stopped", why, seconds)
        else:
            why = why or f"{_error_line(active.log)} ({active.command.what}; see {active.log})"
            result = CommandResult("failed", why, seconds)
        self._end(active.job, result)

    def _end(self, job: Job, result: CommandResult) -> None:
        self._outcomes[job.name] = result
        self._watch.ended(job, result)

    def _stop(self) -> None:
        """Ask every process to end, once."""
        if self._kill_at is not None:
            return
        self._kill_at = time.monotonic() + GRACE_SECONDS
        for active in self._active:
            active.process.send_signal(signal.SIGINT)

    def _wait(self) -> None:
        """Until every process has ended; another interrupt means at once."""
        try:
            for active in self._active:
                left = max((self._kill_at or 0.0) - time.monotonic(), 0.0)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    active.process.wait(left)
        finally:
            for active in self._active:
                active.kill()
                active.process.wait()
                seconds = time.monotonic() - active.began
                self._end(active.job, CommandResult("stopped", "interrupted", seconds))


def _error_line(log: Path) -> str:
    """The error that a command ended with: its ``Error:`` line, else the last line it wrote."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    said = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    errors = [line.removeprefix("Error: ") for line in said if line.startswith("Error: ")]
    return (errors or said or ["it said nothing"])[-1]
