"""The jobs of a cluster, by the HTTP interface of its head: Ray's dashboard."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from metadist.errors import JobError, JobUnknown
from metadist.jobs.address import ADDRESSES
from metadist.jobs.client_errors import CONNECT, explained
from metadist.jobs.entrypoint import series
from metadist.jobs.secrets import redacted
from metadist.process.environment import restored

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

#: Seconds to wait for an answer. Sending a package waits for a slow link.
_ANSWER, _SEND = 60.0, 300.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Loggers of Ray that tell of each step.
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
#: What a job of ours is known by: its metadata.
RUN, VERB = "metadist_run", "metadist_command"


@dataclass(frozen=True)
class JobInfo:
    """What a cluster says of a job.

    Attributes:
        id: its submission id.
        run: the run or search that it makes or continues, if it is one of ours.
        verb: of the command, likewise.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: what Ray says of it, secrets in URIs hidden.
        reason: Ray's name for a failure.
        exit_code: of its driver; None if that has not ended, or nobody knows how.
        started, ended: seconds since 1970.
    """

    id: str
    run: str
    verb: str
    status: str
    message: str
    reason: str
    exit_code: int | None
    started: float | None
    ended: float | None

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")


class JobClient:
    """Submits, lists, shows and stops jobs.

    Raises:
        UnreachableError: nobody answers at its address, or somebody who is no dashboard of Ray's.
        JobError: it refuses the token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with explained(address, known=False):
            self._client = _admitted(address)

    @property
    def ray_version(self) -> str:
        """Of the head."""
        return str(self._client._server_ray_version)

    def check_version(self, ours: str, *, any_version: bool) -> str:
        """See that the cluster runs the same series of Ray; a warning if that need not be.

        Raises:
            JobError: it does not.
        """
        theirs = self.ray_version
        if series(theirs) == series(ours):
            return ""
        what = f"{self.address} runs Ray {theirs}, this is Ray {ours}"
        if not any_version:
            raise JobError(
                f"{what}; use the same series here (pip install 'ray=={theirs}') or there, or "
                "submit with --any-version"
            )
        return what

    def submit(
        self,
        job_id: str,
        entrypoint: str,
        runtime_env: Mapping[str, Any],
        metadata: Mapping[str, str],
        *,
        cpus: float,
        gpus: float,
    ) -> None:
        """Submit a job; one that is there already under this id is that job."""
        with explained(self.address):
            try:
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job_id,
                    runtime_env=dict(runtime_env),
                    metadata=dict(metadata),
                    entrypoint_num_cpus=cpus or None,
                    entrypoint_num_gpus=gpus or None,
                )
            except (OSError, RuntimeError):
                # The request may have arrived where the answer has not.
                with contextlib.suppress(Exception):
                    self._client.get_job_info(job_id)
                    return
                raise

    def job(self, job_id: str) -> JobInfo:
        """What is known of a job.

        Raises:
            JobUnknown: nothing.
        """
        with explained(self.address, job_id):
            return _job(self._client.get_job_info(job_id))

    def jobs(self) -> list[JobInfo]:
        """Jobs that were submitted, the oldest first."""
        with explained(self.address):
            found = [_job(j) for j in self._client.list_jobs() if j.submission_id]
        return sorted(found, key=lambda job: (job.started or 0.0, job.id))

    def find(self, name: str) -> JobInfo:
        """A job by its id, or the newest one of a run.

        Raises:
            JobUnknown: there is none; the message lists what there is.
        """
        newest = self.jobs()[::-1]
        found = [job for job in newest if job.id == name] or [j for j in newest if j.run == name]
        if found and name:
            return found[0]
        ours = [job.id for job in newest if job.verb]
        raise JobUnknown(
            f"{self.address}: no job {name!r}, and none of a run of that name; there are: "
            f"{', '.join(ours[:10]) or 'none'}"
        )

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; whether it was running."""
        with explained(self.address, job_id):
            return bool(self._client.stop_job(job_id))

    def logs(self, job_id: str) -> str:
        """What a job has said so far."""
        with explained(self.address, job_id):
            return str(self._client.get_job_logs(job_id))

    def tail(self, job_id: str) -> AsyncIterator[str]:
        """What a job has said and says, from the beginning, until it or the connection ends."""
        return self._client.tail_job_logs(job_id)


def _job(details: JobDetails) -> JobInfo:
    known = details.metadata or {}
    return JobInfo(
        id=details.submission_id or "",
        run=known.get(RUN, ""),
        verb=known.get(VERB, ""),
        status=str(details.status),
        message=redacted(details.message or ""),
        reason=str(details.error_type or ""),
        exit_code=details.driver_exit_code,
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
    )


def _admitted(address: str) -> JobSubmissionClient:
    """Ray's client, with the token that lies here where a head on this machine asks for one."""
    from ray.exceptions import AuthenticationError

    try:
        return _client(address)
    except AuthenticationError as error:
        headers = local_token(address, os.environ)
        if headers is None or "Authentication required" not in str(error):
            raise
        return _client(address, headers)


def _client(address: str, headers: dict[str, str] | None = None) -> JobSubmissionClient:
    """Ray's client, which waits for no answer for ever and for no address but this one."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
            wait = _SEND if method == "PUT" else _ANSWER
            return super()._do_request(method, endpoint, timeout=(CONNECT, wait), **more)

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Both ways to the head, requests and websockets, shall trust the same.
    trusted = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    with restored(*ADDRESSES):
        for name in ADDRESSES:  # Ray takes them before what it is told
            os.environ.pop(name, None)
        return Client(address, headers=headers, verify=trusted or True)


def local_token(address: str, environ: Mapping[str, str]) -> dict[str, str] | None:
    """Headers with the token that a head at ``address`` has taken from where Ray looks for one: it
    switches tokens on where its user has one.

    None where there is none, on other machines, and where ``RAY_AUTH_MODE`` says what to do.
    """
    if environ.get("RAY_AUTH_MODE") or urlsplit(address).hostname not in _LOOPBACK:
        return None
    token = environ.get("RAY_AUTH_TOKEN", "").strip()
    with contextlib.suppress(OSError, RuntimeError, UnicodeDecodeError):
        file = environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        token = token or Path(file).read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else None
