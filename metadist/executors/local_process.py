"""A command line at work on this machine; it ends with the process that has started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from metadist.errors import MetadistError
from metadist.executors.pool import Job, Start
from metadist.process.imports import environment

#: One thread in each process: the bits are defined for one, and there are as many as cores.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PR_SET_PDEATHSIG = 1
#: Loaded before any fork: what runs between fork and exec should do as little as possible.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def on_this_machine(variables: Mapping[str, str]) -> Start:
    """Starts command lines here.

    Args:
        variables: more of them for their environment; what is in them is written down nowhere.
    """

    def start(job: Job, index: int) -> LocalProcess:
        assert job.log is not None
        return LocalProcess(job.commands[index].arguments, job.log, variables)

    return start


class LocalProcess:
    """See :class:`metadist.executors.pool.Process`.

    Args:
        words: of the command line.
        log: what it says is added to this file.
        variables: see :func:`on_this_machine`.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, words: tuple[str, ...], log: Path, variables: Mapping[str, str]) -> None:
        self._log = log
        with log.open("ab") as stream:
            stream.write(f"$ {' '.join(words)}\n".encode())
            stream.flush()
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(), **dict.fromkeys(_THREADS, "1"), **variables},
                # A group of its own: a Ctrl-C in the terminal is for us to pass on, once.
                process_group=0,
                preexec_fn=_follow_parent(os.getpid()),
            )

    def ended(self, seconds: float = 0.0) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def failure(self) -> Exception | None:
        """The error that it says it has ended with, if its exit status is not 0."""
        return MetadistError(_error_line(self._log)) if self.process.returncode else None

    def ask(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _follow_parent(parent: int) -> Callable[[], None]:
    """What a process does before it becomes the command: see that it ends when we are killed."""

    def follow() -> None:
        # Started in the background by a shell, we may have been told to ignore it; Ray's processes
        # block what they are not to end by.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != parent:  # it died before we could say so
                os._exit(1)

    return follow


def _error_line(log: Path) -> str:
    """The error that a command ended with: its ``Error:`` line, else the last line it wrote."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    said = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    errors = [line.removeprefix("Error: ") for line in said if line.startswith("Error: ")]
    return (errors or said or ["it said nothing"])[-1]
