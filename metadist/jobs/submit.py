"""Submitting a command line as a job, and again if what ran it has died."""

from __future__ import annotations

import json
import os
import secrets as randomness
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metadist.errors import JobError, JobUnknown, UnreachableError
from metadist.jobs.address import dashboard_url
from metadist.jobs.client import RUN, VERB, JobClient, JobInfo
from metadist.jobs.command import Command, Plan, as_name, plan
from metadist.jobs.follow import Follower, Write, backoff, died, exit_status, patience, retry
from metadist.jobs.package import SCRIPT, Package, developed, pack
from metadist.jobs.secrets import check_words, own_secrets
from metadist.process.announce import Announce
from metadist.process.imports import home
from metadist.process.provenance import commit
from metadist.recipe.schema import load_recipe

#: Set by Ray in the driver of a job.
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
#: Seconds that a job which is stopped has to write a checkpoint and end its workers.
STOP_SECONDS = 60
#: Exit status of a command whose job goes on without it: that of a process ended by Ctrl-C.
LEFT = 130
NO_TRACKING = (
    "this job's runs are in an object store, which has no place for MLflow's file: set "
    "MLFLOW_TRACKING_URI on the cluster, or submit with --tracking-uri URI or --offline"
)


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


@dataclass
class Outcome:
    """How it went.

    Attributes:
        jobs: ids, one for each time it was submitted.
        job: the last one, as it was seen last.
        exit_status: see :func:`metadist.jobs.follow.exit_status`.
        lost: why the newest job has died, until it is submitted again.
    """

    plan: Plan
    address: str
    jobs: list[str] = field(default_factory=list)
    job: JobInfo | None = None
    exit_status: int = 0
    lost: str | None = None


def submit(request: Submission, announce: Announce, write: Write) -> Outcome:
    """Submit a command line and, if asked to, follow it.

    Args:
        write: takes what the job says.

    Raises:
        JobError: nothing was submitted, or what was cannot be followed; the message says which.
        RecipeError: there is no such recipe.
    """
    planned, secrets = plan(request.command, _stamp()), own_secrets()
    check_words(planned.command.argv, secrets)
    if planned.command.verb == "train" and planned.command.arguments:
        # Before a cluster is asked for anything.
        load_recipe(planned.command.arguments[0], planned.command.values("--set"))
    client = JobClient(dashboard_url(request.address, os.environ))
    if warning := client.check_version(version("ray"), any_version=request.any_version):
        announce(f"Warning: {warning}")
    ship_code = developed() if request.ship_code is None else request.ship_code
    code = Path(home()) if ship_code else None
    outcome = Outcome(planned, client.address)
    with tempfile.TemporaryDirectory(prefix="metadist-job-") as directory:
        package = pack(
            planned.command,
            Path(directory),
            code=code,
            facts=_facts(request, planned),
            here=Path.cwd(),
            secrets=secrets,
        )
        _announce_package(package, code, announce)
        submitter = _Submitter(request, package, outcome, announce)
        try:
            submitter.submit(client)
            if request.wait:
                submitter.follow(client, write)
            else:
                outcome.job = client.job(outcome.jobs[-1])
        except KeyboardInterrupt as error:
            if not outcome.jobs:
                raise
            outcome.exit_status = getattr(error, "exit_status", LEFT)
            announce(_after_interrupt(outcome))
    return outcome


def _after_interrupt(outcome: Outcome) -> str:
    if outcome.lost is None:
        return goes_on(outcome.jobs[-1], outcome.address)
    return (
        f"{outcome.jobs[-1]}: {outcome.lost}; it was not submitted again. The same command line "
        "with the run's --name continues it"
    )


def _stamp() -> str:
    """The time, and enough beside it that two users do not mean one run."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{randomness.token_hex(2)}"


def goes_on(job_id: str, address: str) -> str:
    """What can be done about a job that nobody follows."""
    return (
        f"{job_id} goes on. To follow it again: metadist submit logs -f {job_id} --address "
        f"{address}; to end it: metadist submit stop {job_id} --address {address}"
    )


def in_place(request: Submission) -> tuple[list[str], dict[str, str]]:
    """What a process that is the driver of a job already runs itself, after ``metadist``, and
    variables that it sets if they are not.

    Raises:
        JobError: the run has no name, and another attempt at this job would start another one; or
            what it tells MLflow would be gone with the job.
    """
    command = request.command
    if command.verb != "evaluate" and not (command.has("--name") or command.has("--resume")):
        raise JobError(
            "this is a job already, which runs the command itself: give the run a --name, so that "
            "another attempt at the job continues it"
        )
    planned = plan(command, _stamp()).command
    if _needs_tracking(planned) and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise JobError(NO_TRACKING)
    return planned.argv, {"METADIST_DATA_DIR": data_beside(planned.value("--runs-dir") or "")}


def _facts(request: Submission, planned: Plan) -> dict[str, Any]:
    """What the script that the job starts with must know."""
    return {
        "versions": {
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "ray": version("ray"),
            "metadist": version("metadist"),
        },
        "any_version": request.any_version,
        "data_dir": data_beside(planned.command.value("--runs-dir") or ""),
        "needs_tracking": NO_TRACKING if _needs_tracking(planned.command) else "",
    }


def data_beside(runs: str) -> str:
    """Where data are if nobody says: beside the runs, which every node sees."""
    if "://" not in runs:
        return str(Path(runs).parent / "data")
    scheme, _, place = runs.rstrip("/").partition("://")
    return f"{scheme}://{place.rpartition('/')[0] or place}/data"


def _needs_tracking(command: Command) -> bool:
    """Whether MLflow's own file would be in the job's directory, and gone with it."""
    named = command.has("--tracking-uri") or command.has("--offline")
    at_store = "://" in (command.value("--runs-dir") or "")
    return at_store and not named and command.verb != "evaluate"


def _announce_package(package: Package, code: Path | None, announce: Announce) -> None:
    for source, place in package.files.items():
        announce(f"Sending {source} as {place}")
    for path in package.left:
        announce(f"Not sending {path}")
    if code is None:
        announce("The cluster runs the metadist that is installed there (--ship-code sends this)")
    else:
        head, plus, _ = commit(code / "metadist").partition("+")
        announce(
            f"Sending the code in {code} ({head[:12]}{', changed' if plus else ''}): the cluster "
            "runs it (--no-ship-code: what is installed there)"
        )


class _Submitter:
    """Submits the same thing as often as it takes, each time under an id of its own."""

    def __init__(
        self, request: Submission, package: Package, outcome: Outcome, announce: Announce
    ) -> None:
        self._request = request
        self._package = package
        self._outcome = outcome
        self._announce = announce
        planned = outcome.plan
        self._base = f"{as_name(planned.run or planned.command.verb)}-{randomness.token_hex(3)}"

    def submit(self, client: JobClient) -> JobClient:
        """Submit it to a cluster once more."""
        jobs, planned = self._outcome.jobs, self._outcome.plan
        job_id = f"{self._base}-{len(jobs) + 1}" if jobs else self._base
        jobs.append(job_id)  # now: an interrupt does not tell whether it arrived
        try:
            client.submit(
                job_id,
                shlex.join([self._request.python, SCRIPT, *self._package.command.argv]),
                runtime_env(self._package),
                {VERB: planned.command.verb, **({RUN: planned.run} if planned.run else {})},
                cpus=planned.cpus if self._request.cpus is None else self._request.cpus,
                gpus=self._request.gpus,
            )
        except Exception:
            jobs.pop()
            raise
        of = f", which makes or continues {planned.run}" if planned.command.has("--resume") else ""
        self._announce(f"Submitted {job_id} to {client.address}{of}")
        return client

    def follow(self, client: JobClient, write: Write) -> None:
        """Follow the job, and submit it again if it has died."""
        outcome, pauses = self._outcome, backoff()
        for left in range(self._request.retries, -1, -1):
            outcome.lost = self._follow_once(client, write)
            if outcome.lost is None:
                return
            job_id = outcome.jobs[-1]
            if not left:
                if outcome.job is not None:
                    return
                raise JobError(f"{job_id}: {outcome.lost}; submit it again, as with --retries 3")
            pause = next(pauses)
            self._announce(
                f"{job_id}: {outcome.lost}; submitting it again in {pause:.0f} s ({left} left)"
            )
            time.sleep(pause)
            client = self._submit_again()
            outcome.lost = None

    def _follow_once(self, client: JobClient, write: Write) -> str | None:
        """Follow the newest job to its end; why it has died, if it has."""
        outcome, job_id = self._outcome, self._outcome.jobs[-1]
        try:
            job = Follower(client, job_id, write, self._announce, patience()).follow()
        except JobUnknown:
            outcome.job, outcome.exit_status = None, 1
            return "the cluster's head was started anew and does not know it any more"
        except UnreachableError as error:
            raise UnreachableError(f"{error}. {goes_on(job_id, outcome.address)}") from None
        outcome.job, outcome.exit_status = job, exit_status(job)
        return f"its driver has died ({_why(job)})" if died(job) else None

    def _submit_again(self) -> JobClient:
        """Submit once more, to a head that may be starting: it answers before it takes jobs."""
        seconds = patience()

        def lost(error: UnreachableError) -> None:
            self._announce(f"{error}. Waiting for it, for at most {seconds:.0f} s")

        return retry(lambda: self.submit(JobClient(self._outcome.address)), seconds, lost)


def runtime_env(package: Package) -> dict[str, Any]:
    """Ray's description of where the job runs. It can be read by everybody: no secrets in it."""
    environment: dict[str, Any] = {
        "working_dir": str(package.directory),
        # Ray kills after three seconds what it was asked to stop.
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
    }
    if package.modules:
        environment["py_modules"] = [str(path) for path in package.modules]
    return environment


def _why(job: JobInfo) -> str:
    if job.exit_code is not None:
        return f"exit status {job.exit_code}"
    return job.reason.removeprefix("JOB_").replace("_", " ").lower() or "no reason given"


def last_json(text: str) -> dict[str, Any] | None:
    """The last line of a log that is a JSON object: the result of a command with ``--json``."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return found if isinstance(found, dict) else None
    return None
