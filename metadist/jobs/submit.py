"""Submitting a command line as a job of a Ray cluster."""

from __future__ import annotations

import contextlib
import json
import os
import secrets as randomness
import tempfile
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metadist.errors import JobError
from metadist.jobs import entrypoint
from metadist.jobs.address import dashboard_url
from metadist.jobs.client import JobClient
from metadist.jobs.command import NO_TRACKING, data_beside, needs_tracking, plan
from metadist.jobs.follow import DETACHED, Write
from metadist.jobs.package import Package, developed, pack
from metadist.jobs.secrets import check_words, known_secrets
from metadist.jobs.submitter import Submission, SubmittedJob, goes_on
from metadist.process.announce import Announce
from metadist.process.imports import home
from metadist.process.provenance import commit
from metadist.recipe.schema import load_recipe

#: Set by Ray in the driver of a job.
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def submit(request: Submission, announce: Announce, write: Write) -> SubmittedJob:
    """Submit a command line and, if asked to, follow it.

    Args:
        write: takes what the job says.

    Raises:
        JobError: nothing was submitted, or what was cannot be followed; the message says which.
        RecipeError: there is no such recipe.
    """
    planned, secrets = plan(request.command, _stamp()), known_secrets(os.environ, Path.home())
    check_words(planned.command.argv, secrets)
    if planned.command.verb == "train" and planned.command.arguments:
        # Before a cluster is asked for anything.
        load_recipe(planned.command.arguments[0], planned.command.values("--set"))
    client = JobClient(dashboard_url(request.address, os.environ))
    if warning := client.check_version(version("ray"), any_version=request.any_version):
        announce(f"Warning: {warning}")
    ship_code = developed() if request.ship_code is None else request.ship_code
    code = Path(home()) if ship_code else None
    facts = {
        "versions": entrypoint.found(),
        "any_version": request.any_version,
        "data_dir": data_beside(planned.command.value("--runs-dir") or ""),
        "needs_tracking": NO_TRACKING if needs_tracking(planned.command) else "",
    }
    with tempfile.TemporaryDirectory(prefix="metadist-job-") as directory:
        package = pack(
            planned.command,
            Path(directory),
            code=code,
            facts=facts,
            here=Path.cwd(),
            secrets=secrets,
        )
        _announce_package(package, code, announce)
        job = SubmittedJob(request, planned, package, client.address, announce)
        try:
            job.submit(client)
            if request.wait:
                job.follow(client, write)
            else:
                job.job = client.job(job.jobs[-1])
        except KeyboardInterrupt as error:
            if not job.jobs:
                raise
            job.exit_status = getattr(error, "exit_status", DETACHED)
            job_id = job.jobs[-1]
            announce(
                goes_on(job_id, job.address)
                if job.lost is None
                else f"{job_id}: {job.lost}; it was not submitted again. The same command line "
                "with the run's --name continues it"
            )
    return job


def _stamp() -> str:
    """The time, and enough beside it that two users do not mean one run."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{randomness.token_hex(2)}"


def in_place(request: Submission) -> tuple[list[str], dict[str, str]]:
    """What a process that is the driver of a job already runs itself, after ``metadist``, and
    variables that it sets if they are not.

    Raises:
        JobError: the run has no name, and another attempt at this job would start another one; or
            what it tells MLflow would be gone with the job.
    """
    command = request.command
    named = command.has("--name") or command.has("--resume")
    if command.verb in ("train", "tune") and not named:
        raise JobError(
            "this is a job already, which runs the command itself: give the run a --name, so that "
            "another attempt at the job continues it"
        )
    planned = plan(command, _stamp()).command
    if needs_tracking(planned) and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise JobError(NO_TRACKING)
    return planned.argv, {"METADIST_DATA_DIR": data_beside(planned.value("--runs-dir") or "")}


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


def last_json(text: str) -> dict[str, Any] | None:
    """The last line of a log that is a JSON object: the result of a command with ``--json``."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                found: dict[str, Any] = json.loads(line)
                return found
    return None
