"""What Ray and the network raise where a cluster is asked, in words that say how to mend it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from metadist.errors import JobError, JobUnknown, UnreachableError
from metadist.jobs.address import PORT
from metadist.jobs.secrets import redacted

#: Seconds to connect.
CONNECT = 5.0
#: The head is starting or ending, or a proxy does not reach it.
_SERVER_ERROR = re.compile(r"status code 5\d\d|\b5\d\d Server Error")
_NO_AGENT = (
    "; the head is starting, or another Ray on its machine has the port of its agent (52365): "
    "start one of them with --dashboard-agent-listen-port PORT"
)
#: The request is wrong, and will be next time. (404 may come from a proxy that has lost the head.)
_REFUSED = re.compile(r"status code 4(00|01|03)")


@contextlib.contextmanager
def explained(address: str, job_id: str = "", *, known: bool = True) -> Iterator[None]:
    """Errors of Ray and of the network inside the block as ours.

    Args:
        job_id: of the job that is asked for.
        known: whether the address has answered as a dashboard before.

    Raises:
        UnreachableError: nobody answers at the address, or somebody who is no dashboard of Ray's.
        JobUnknown: there is no such job.
        JobError: the token, or what was asked for, is refused.
    """
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise JobError(f"{address}: {token_error(str(error), os.environ)}") from None
    except (TimeoutError, OSError, RuntimeError, ValueError, KeyError) as error:
        if job_id and "does not exist" in str(error):
            raise JobUnknown(f"{address}: no job {job_id!r}") from None
        raise _explanation(address, error, known) from None


def _explanation(address: str, error: BaseException, known: bool) -> JobError:
    if trouble := _connect_error(address):
        return UnreachableError(trouble)
    text = redacted(f"{error} {error.__context__ or ''}")
    last = (text.strip() or "no reason given").splitlines()[-1].strip()[:300]
    if _SERVER_ERROR.search(text):
        mend = _NO_AGENT if "No available agent" in text else ""
        return UnreachableError(f"{address}: it answers with an error: {last}{mend}")
    if "timed out" in text.lower():
        return UnreachableError(f"{address}: no answer in time ({last})")
    if "CERTIFICATE" in text.upper() and "SSL" in text.upper():
        return JobError(
            f"{address}: its certificate is not trusted ({last}); name your authority's with "
            "REQUESTS_CA_BUNDLE"
        )
    if _REFUSED.search(text):
        return JobError(f"{address}: {last}")
    if known:
        return UnreachableError(f"{address}: {last}")
    # A head that is starting takes connections before it answers.
    return UnreachableError(
        f"{address}: somebody answers, but not Ray's dashboard ({last}); give the dashboard's "
        f"address, by default http://HEAD:{PORT}, and https:// only where something in front of it "
        "speaks TLS"
    )


def _connect_error(address: str) -> str:
    """Why no connection comes about; nothing if one does."""
    url = urlsplit(address)
    try:
        with socket.create_connection((url.hostname or "", url.port or PORT), timeout=CONNECT):
            return ""
    except OSError as error:
        return (
            f"{address}: nobody answers there ({error}); check that the cluster's head runs with "
            "its dashboard, that it listens on more than loopback (ray start --head "
            "--dashboard-host), and that this machine may reach it"
        )


def token_error(said: str, environ: Mapping[str, str]) -> str:
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
