"""Following a job to its end, over dropped connections and the restart of a head."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from data_pipeline.timeouts import seconds_of
from metadist.errors import JobError, UnreachableError
from metadist.jobs.client import JobClient, JobInfo
from metadist.process.announce import Announce

Result = TypeVar("Result")
#: Takes what a job says, as it comes.
Write = Callable[[str], None]
#: Exit status where a job was stopped: that of a process ended by SIGTERM.
STOPPED = 143
#: That of a command whose job goes on without it: that of a process ended by Ctrl-C.
DETACHED = 130
#: Why a job failed that would fail again, in Ray's words. Whatever else Ray names is the death of a
#: process or node.
_LASTING = {
    "RUNTIME_ENV_SETUP_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR",
    "JOB_ENTRYPOINT_COMMAND_ERROR",
}
#: Seconds of silence after which the head is asked how the job is.
_SILENCE = 5.0
#: Seconds between attempts to reach a head: the first, doubled up to the last.
_FIRST, _LONGEST = 1.0, 30.0


def patience() -> float:
    """Seconds to wait for a head that does not answer.

    Raises:
        JobError: METADIST_HEAD_WAIT_S is no number.
    """
    return seconds_of("METADIST_HEAD_WAIT_S", 600.0, JobError)


def exit_status(job: JobInfo) -> int:
    """The exit status of a command that has followed a job to its end."""
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        return STOPPED
    code = job.exit_code or 1
    return code if code > 0 else 128 - code  # a shell's way to name a signal


def died(job: JobInfo) -> bool:
    """Whether a job failed because something ended its driver, rather than by itself."""
    if job.status != "FAILED":
        return False
    if job.exit_code is not None:
        return job.exit_code < 0 or job.exit_code > 128
    return job.reason not in _LASTING


def backoff(seconds: float = math.inf) -> Iterator[float]:
    """How long to sleep before each of the next attempts; they end after so many seconds."""
    deadline = time.monotonic() + seconds
    for number in itertools.count():
        left = deadline - time.monotonic()
        if left <= 0:
            return
        yield min(_FIRST * 2 ** min(number, 10), _LONGEST, left)


def retry(
    work: Callable[[], Result], seconds: float, lost: Callable[[UnreachableError], None]
) -> Result:
    """What ``work`` returns, tried again and again while a cluster is away.

    Args:
        lost: told when it is away for the first time.

    Raises:
        UnreachableError: it was away for longer than ``seconds``.
    """
    pauses, told = backoff(seconds), False
    while True:
        try:
            return work()
        except UnreachableError as error:
            if not told:
                lost(error)
            told = True
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)


@dataclass
class Follower:
    """Shows what a job says until it is over.

    Args:
        write: takes its log, each character once, however often the connection is lost.
        seconds: to wait for a head that does not answer.
    """

    client: JobClient
    job_id: str
    write: Write
    announce: Announce
    seconds: float
    _shown: int = 0
    _waits: bool = False

    def follow(self) -> JobInfo:
        """The job when it is over.

        Raises:
            UnreachableError: the head was away for too long; the job may go on.
            JobUnknown: the head is another one, which does not know the job.
            JobError: the head will not have us any more.
        """
        while not (job := retry(self._look, self.seconds, self._lost)).over:
            time.sleep(_FIRST)
        with contextlib.suppress(JobError):  # what the connection has not brought
            self._show(self.client.logs(self.job_id), 0)
        return job

    def _look(self) -> JobInfo:
        asyncio.run(self._tail())
        return self.client.job(self.job_id)

    def _lost(self, error: UnreachableError) -> None:
        self.announce(
            f"Lost sight of {self.job_id} ({error}). "
            f"Looking for it for at most {self.seconds:.0f} s"
        )

    def _show(self, text: str, start: int) -> int:
        """Write what is new of a piece of the log; where the next piece starts."""
        end = start + len(text)
        if end > self._shown:
            self.write(text[max(self._shown - start, 0) :])
            self._shown = end
        return end

    async def _tail(self) -> None:
        """Show the log until it ends, the connection does, or the job is over."""
        position = 0
        lines = self.client.tail(self.job_id)
        coming = asyncio.ensure_future(anext(lines, None))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=_SILENCE)
                if not done:
                    # A connection that was cut silently would be waited for without end.
                    if (await asyncio.to_thread(self._look_once)).over:
                        return
                    continue
                # Whoever asks how the job is finds out why it has failed.
                text = None if coming.exception() else coming.result()
                if text is None:
                    return
                position = self._show(text, position)
                coming = asyncio.ensure_future(anext(lines, None))
        finally:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await coming
            with contextlib.suppress(Exception):
                await lines.aclose()  # type: ignore[attr-defined]

    def _look_once(self) -> JobInfo:
        """How a job is that says nothing; that it is pending is said once."""
        job = self.client.job(self.job_id)
        if job.status == "PENDING" and not self._waits:
            self._waits = True
            self.announce(f"{self.job_id} is pending: {job.message}")
        return job


def stop(client: JobClient, job: JobInfo, seconds: float) -> JobInfo:
    """Ask a job to end and wait until it has.

    Raises:
        JobError: it has not ended after so many seconds.
    """
    client.stop(job.id)
    deadline = time.monotonic() + seconds
    while not (now := client.job(job.id)).over:
        if time.monotonic() > deadline:
            raise JobError(
                f"{job.id} was asked to end and is still {now.status} after {seconds:.0f} s; look "
                f"again with: metadist submit status {job.id}"
            )
        time.sleep(0.5)
    return now
