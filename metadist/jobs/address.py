"""Which cluster is meant: the URL of the dashboard of its head."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from metadist.errors import JobError
from metadist.jobs.secrets import redacted

#: Port of Ray's dashboard unless its head says otherwise.
PORT = 8265
#: Ports of a head that people take for it, and what listens there.
_OTHER_PORTS = {6379: "the port that drivers and nodes connect to", 10001: "Ray Client's port"}
#: Variables that name a cluster; the first that is set counts.
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def dashboard_url(given: str | None, environ: Mapping[str, str]) -> str:
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
    try:
        url = urlsplit(given if "://" in given else f"http://{given}")
        port = url.port
    except ValueError as error:
        raise JobError(f"{where} {redacted(given)!r}: {error}; http://HEAD:8265 is meant") from None
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
    if port in _OTHER_PORTS:
        raise JobError(
            f"{where} {given}: {port} is {_OTHER_PORTS[port]}; jobs are submitted to the "
            f"dashboard, by default {url.scheme}://{url.hostname}:{PORT}"
        )
    if port is None:
        port = PORT if "://" not in given else {"http": 80, "https": 443}[url.scheme]
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}:{port}{url.path.rstrip('/')}"
