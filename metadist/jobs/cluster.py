"""A cluster as somebody outside it sees it: the HTTP interface of its head, Ray's dashboard.

What can be wrong with an address, a token or a version is said in words; see the errors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from metadist.errors import JobError, JobUnknown, UnreachableError
from metadist.jobs.secrets import redacted
from metadist.jobs.start import series
from metadist.jobs.token import local_token

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

#: Port of Ray's dashboard unless its head says otherwise.
PORT = 8265
#: Ports of a head that people take for it, and what listens there.
_OTHER_PORTS = {6379: "the port that drivers and nodes connect to", 10001: "Ray Client's port"}
#: Seconds to connect, and to wait for an answer. Sending a package waits for a slow link.
_CONNECT, _ANSWER, _SEND = 5.0, 60.0, 300.0
#: Variables that name a cluster; the first that is set counts.
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
#: The head is starting or ending, or a proxy does not reach it.
_SERVER_ERROR = re.compile(r"status code 5\d\d|\b5\d\d Server Error")
_NO_AGENT = (
    "; the head is starting, or another Ray on its machine has the port of its agent (52365): "
    "start one of them with --dashboard-agent-listen-port PORT"
)
#: The request is wrong, and will be next time. (404 may come from a proxy that has lost the head.)
_REFUSED = re.compile(r"status code 4(00|01|03)")
#: Loggers of Ray that tell of each step.
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
#: What a job of ours is known by: its metadata.
RUN, VERB = "metadist_run", "metadist_command"


@dataclass(frozen=True)
class Job:
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


def dashboard(given: str | None, environ: Mapping[str, str]) -> str:
    """The URL of the dashboard that is meant.

    Args:
        given: ``--address``.

    Raises:
        JobError: none is named, or something that cannot be it.
    """
    where = "--address"
    if given is None:
        where = next((name for name in ADDRESSES if environ.get(name)), "")
        if not where:
            raise JobError(
                "no cluster is named: give --address http://HEAD:8265 or set "
                "RAY_API_SERVER_ADDRESS. To start one on this machine: ray start --head. Without "
                "a cluster the same command line works without 'submit --'"
            )
        given = environ[where]
    url = _split(given, where)
    if url.scheme not in ("http", "https") or url.hostname in (None, "", "auto", "local"):
        raise JobError(
            f"{where} {redacted(given)!r}: jobs are submitted to the dashboard, as "
            f"http://{url.hostname if url.scheme == 'ray' else 'HEAD'}:{PORT}"
        )
    if url.username is not None or url.query or url.fragment:
        raise JobError(
            f"{where} {redacted(given)!r}: a URL without user, password and query is needed; a "
            "token is read from RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
        )
    port = url.port
    if port in _OTHER_PORTS:
        raise JobError(
            f"{where} {given}: {port} is {_OTHER_PORTS[port]}; jobs are submitted to the "
            f"dashboard, by default {url.scheme}://{url.hostname}:{PORT}"
        )
    if port is None:
        port = PORT if "://" not in given else {"http": 80, "https": 443}[url.scheme]
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}:{port}{url.path.rstrip('/')}"


def _split(given: str, where: str) -> SplitResult:
    try:
        url = urlsplit(given if "://" in given else f"http://{given}")
        _ = url.port
    except ValueError as error:
        raise JobError(f"{where} {redacted(given)!r}: {error}; http://HEAD:8265 is meant") from None
    return url


class Cluster:
    """The jobs of a cluster.

    Raises:
        UnreachableError: nobody answers at its address, or somebody who is no dashboard of Ray's.
        JobError: it refuses the token.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        with self._explained():
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
        with self._explained():
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

    def job(self, job_id: str) -> Job:
        """What is known of a job.

        Raises:
            JobUnknown: nothing.
        """
        with self._explained(job_id):
            return _job(self._client.get_job_info(job_id))

    def jobs(self) -> list[Job]:
        """Jobs that were submitted, the oldest first."""
        with self._explained():
            found = [_job(j) for j in self._client.list_jobs() if j.submission_id]
        return sorted(found, key=lambda job: (job.started or 0.0, job.id))

    def find(self, name: str) -> Job:
        """A job by its id, or the newest one of a run.

        Raises:
            JobUnknown: there is none; the message lists what there is.
        """
        there = self.jobs()
        for job in reversed(there):
            if name == job.id:
                return job
        for job in reversed(there):
            if job.run and name == job.run:
                return job
        ours = [job.id for job in reversed(there) if job.verb]
        raise JobUnknown(
            f"{self.address}: no job {name!r}, and none of a run of that name; there are: "
            f"{', '.join(ours[:10]) or 'none'}"
        )

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; whether it was running."""
        with self._explained(job_id):
            return bool(self._client.stop_job(job_id))

    def logs(self, job_id: str) -> str:
        """What a job has said so far."""
        with self._explained(job_id):
            return str(self._client.get_job_logs(job_id))

    async def tail(self, job_id: str) -> AsyncIterator[str]:
        """What a job has said and says, from the beginning, until it or the connection ends."""
        async for text in self._client.tail_job_logs(job_id):
            yield text

    @contextlib.contextmanager
    def _explained(self, job_id: str = "") -> Iterator[None]:
        """Errors of Ray and of the network as ours."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise JobError(f"{self.address}: {_token_trouble(str(error), os.environ)}") from None
        except (TimeoutError, OSError, RuntimeError, ValueError, KeyError) as error:
            if job_id and "does not exist" in str(error):
                raise JobUnknown(f"{self.address}: no job {job_id!r}") from None
            raise self._explain(error) from None

    def _explain(self, error: BaseException) -> JobError:
        if trouble := _connect_trouble(self.address):
            return UnreachableError(trouble)
        text = redacted(f"{error} {error.__context__ or ''}")
        if _SERVER_ERROR.search(text):
            mend = _NO_AGENT if "No available agent" in text else ""
            said = f"it answers with an error: {_last_line(text)}"
            return UnreachableError(f"{self.address}: {said}{mend}")
        if "timed out" in text.lower():
            return UnreachableError(f"{self.address}: no answer in time ({_last_line(text)})")
        if "CERTIFICATE" in text.upper() and "SSL" in text.upper():
            return JobError(
                f"{self.address}: its certificate is not trusted ({_last_line(text)}); name your "
                "authority's with REQUESTS_CA_BUNDLE"
            )
        if _REFUSED.search(text):
            return JobError(f"{self.address}: {_last_line(text)}")
        if hasattr(self, "_client"):
            return UnreachableError(f"{self.address}: {_last_line(text)}")
        # A head that is starting takes connections before it answers.
        return UnreachableError(
            f"{self.address}: somebody answers, but not Ray's dashboard ({_last_line(text)}); give "
            f"the dashboard's address, by default http://HEAD:{PORT}, and https:// only where "
            "something in front of it speaks TLS"
        )


def _connect_trouble(address: str) -> str:
    """Why no connection comes about; nothing if one does."""
    url = urlsplit(address)
    try:
        with socket.create_connection((url.hostname or "", url.port or PORT), timeout=_CONNECT):
            return ""
    except OSError as error:
        return (
            f"{address}: nobody answers there ({error}); check that the cluster's head runs with "
            "its dashboard, that it listens on more than loopback (ray start --head "
            "--dashboard-host), and that this machine may reach it"
        )


def _token_trouble(said: str, environ: Mapping[str, str]) -> str:
    """What is wrong with a token, from what the head says and what is set here."""
    names = "RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN)"
    if "Authentication required" in said:
        if environ.get("RAY_AUTH_MODE", "").lower() != "token":
            return f"the cluster wants a token; set RAY_AUTH_MODE=token and {names}"
        return f"the cluster wants a token and there is none here; set {names}"
    path = environ.get("RAY_AUTH_TOKEN_PATH")
    if path and not environ.get("RAY_AUTH_TOKEN") and not os.access(path, os.R_OK):
        return f"RAY_AUTH_TOKEN_PATH names {path}, which cannot be read; name a file with the token"
    source = next((n for n in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if environ.get(n)), "")
    return (
        f"the cluster refuses the token of {source or '~/.ray/auth_token'}: it has another one; "
        f"set {names} to that of its head"
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"


def _job(details: JobDetails) -> Job:
    known = details.metadata or {}
    return Job(
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
            return super()._do_request(method, endpoint, timeout=(_CONNECT, wait), **more)

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Both ways to the head, requests and websockets, shall trust the same.
    trusted = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    with _without(*ADDRESSES):
        return Client(address, headers=headers, verify=trusted or True)


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    """These variables are not set inside the block: Ray takes them before what it is told."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
