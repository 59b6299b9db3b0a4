"""A job that was submitted, and is again if what ran it has died."""

from __future__ import annotations

import secrets as randomness
import shlex
import time
from dataclasses import dataclass, field

from metadist.errors import JobError, JobUnknown, UnreachableError
from metadist.jobs.client import RUN, VERB, JobClient, JobInfo
from metadist.jobs.command import Command, Plan, as_name
from metadist.jobs.follow import Follower, Write, backoff, died, exit_status, patience, retry
from metadist.jobs.package import SCRIPT, Package, runtime_env
from metadist.process.announce import Announce


@dataclass(frozen=True)
class Submission:
    """What is asked for.

    Attributes:
        command: the command line, as it was given.
        address: ``--address``.
        retries: how often it is submitted again if its driver or the head has died.
        wait: follow it to its end.
        ship_code: send this code along; None: if it is a checkout.
        python: interpreter on the cluster.
        any_version: go on where Ray's or Python's version differs.
        cpus, gpus: that the driver reserves; None: what the command needs.
    """

    command: Command
    address: str | None = None
    retries: int = 0
    wait: bool = True
    ship_code: bool | None = None
    python: str = "python"
    any_version: bool = False
    cpus: float | None = None
    gpus: float = 0.0


def goes_on(job_id: str, address: str) -> str:
    """What can be done about a job that nobody follows."""
    return (
        f"{job_id} goes on. To follow it again: metadist submit logs -f {job_id} --address "
        f"{address}; to end it: metadist submit stop {job_id} --address {address}"
    )


@dataclass
class SubmittedJob:
    """Submitted as often as it takes, each time under an id of its own; and how it went.

    Attributes:
        package: what it takes along.
        address: of the cluster.
        jobs: ids, one for each time it was submitted.
        job: the last one, as it was seen last.
        exit_status: see :func:`metadist.jobs.follow.exit_status`.
        lost: why the newest job has died, until it is submitted again.
    """

    request: Submission
    plan: Plan
    package: Package
    address: str
    announce: Announce
    jobs: list[str] = field(default_factory=list)
    job: JobInfo | None = None
    exit_status: int = 0
    lost: str | None = None

    def __post_init__(self) -> None:
        named = self.plan.run or self.plan.command.verb
        self._base = f"{as_name(named)}-{randomness.token_hex(3)}"

    def submit(self, client: JobClient) -> JobClient:
        """Submit it to a cluster once more."""
        run, command = self.plan.run, self.plan.command
        job_id = f"{self._base}-{len(self.jobs) + 1}" if self.jobs else self._base
        self.jobs.append(job_id)  # now: an interrupt does not tell whether it arrived
        try:
            client.submit(
                job_id,
                shlex.join([self.request.python, SCRIPT, *self.package.command.argv]),
                runtime_env(self.package),
                {VERB: command.verb, **({RUN: run} if run else {})},
                cpus=self.plan.cpus if self.request.cpus is None else self.request.cpus,
                gpus=self.request.gpus,
            )
        except Exception:
            self.jobs.pop()
            raise
        of = f", which makes or continues {run}" if command.has("--resume") else ""
        self.announce(f"Submitted {job_id} to {client.address}{of}")
        return client

    def follow(self, client: JobClient, write: Write) -> None:
        """Follow the job, and submit it again if it has died."""
        pauses = backoff()
        for left in range(self.request.retries, -1, -1):
            self.lost = self._follow_once(client, write)
            if self.lost is None or (not left and self.job is not None):
                return
            what = f"{self.jobs[-1]}: {self.lost}"
            if not left:
                raise JobError(f"{what}; submit it again, as with --retries 3")
            pause = next(pauses)
            self.announce(f"{what}; submitting it again in {pause:.0f} s ({left} left)")
            time.sleep(pause)
            client = self._submit_again()
            self.lost = None

    def _follow_once(self, client: JobClient, write: Write) -> str | None:
        """Follow the newest job to its end; why it has died, if it has."""
        job_id = self.jobs[-1]
        try:
            job = Follower(client, job_id, write, self.announce, patience()).follow()
        except JobUnknown:
            self.job, self.exit_status = None, 1
            return "the cluster's head was started anew and does not know it any more"
        except UnreachableError as error:
            raise UnreachableError(f"{error}. {goes_on(job_id, self.address)}") from None
        self.job, self.exit_status = job, exit_status(job)
        return f"its driver has died ({_why(job)})" if died(job) else None

    def _submit_again(self) -> JobClient:
        """Submit once more, to a head that may be starting: it answers before it takes jobs."""
        seconds = patience()

        def lost(error: UnreachableError) -> None:
            self.announce(f"{error}. Waiting for it, for at most {seconds:.0f} s")

        return retry(lambda: self.submit(JobClient(self.address)), seconds, lost)


def _why(job: JobInfo) -> str:
    if job.exit_code is not None:
        return f"exit status {job.exit_code}"
    return job.reason.removeprefix("JOB_").replace("_", " ").lower() or "no reason given"
