"""What ``metadist doctor`` says of what runs elsewhere: the tracking store, a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from metadist.doctor.check import Check, brief
from metadist.doctor.directories import PATIENCE, URI, folder


def tracking(given: str | None, runs_dir: str) -> Iterator[Check]:
    """The MLflow store or server."""
    from metadist.track import default_tracking_uri, public_uri
    from metadist.track.uris import is_server, sqlite_path

    # Beside the runs, or here if they have no place beside them.
    beside = Path.cwd() if URI in runs_dir else Path(runs_dir).expanduser().resolve().parent
    uri = given or default_tracking_uri(beside)
    shown = public_uri(uri)
    path = sqlite_path(uri)
    if path is not None:
        yield _sqlite(shown, path)
    elif is_server(uri):
        yield _server(uri, shown)
    elif uri.startswith("file:") or "://" not in uri:
        place = Path(urlsplit(uri).path if uri.startswith("file:") else uri).absolute()
        yield from folder("tracking", place, shown)
    else:
        yield Check("tracking", "warn", f"{shown}: this kind of store is not examined here")


def _sqlite(shown: str, path: Path) -> Check:
    from metadist.errors import SchemaError
    from metadist.track.sqlite_schema import check_schema

    mend = "mend it, or name another store with --tracking-uri"
    if path.exists():
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as held:
                held.execute("select count(*) from sqlite_master").fetchone()
        except sqlite3.Error as error:
            return Check("tracking", "FAIL", f"{shown}: cannot be opened ({error})", mend)
        try:
            check_schema(path, shown)
        except SchemaError as error:
            return Check("tracking", "FAIL", error.found, error.cure)
        if not os.access(path, os.W_OK):
            return Check("tracking", "FAIL", f"{shown}: cannot be written to", mend)
    # SQLite writes its journal beside the file, so the folder must take files in any case.
    for check in folder("tracking", path.parent, ""):
        if check.status == "FAIL":
            return Check("tracking", "FAIL", check.found, mend)
    return Check("tracking", "OK", f"{shown}{'' if path.exists() else ': not there yet'}")


def _server(uri: str, shown: str) -> Check:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    address = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as reply:
            reply.read(64)
    except urllib.error.HTTPError as error:
        with error:
            found = f"{shown}: answers its health check with status {error.code}"
        return Check("tracking", "warn", found, "see whether it is an MLflow server")
    except (OSError, HTTPException, ValueError) as error:
        why = brief(getattr(error, "reason", error))
        mend = "start it, mend --tracking-uri or MLFLOW_TRACKING_URI, or train with --offline"
        return Check(
            "tracking", "FAIL", f"{shown}: no answer within {PATIENCE:.0f} s ({why})", mend
        )
    return Check("tracking", "OK", f"{shown}: answers")


def ray() -> Iterator[Check]:
    """The cluster that ``RAY_ADDRESS`` names."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Check(
            "ray", "OK", "RAY_ADDRESS is not set: workers get a private Ray of this machine"
        )
        return
    found, mend = f"RAY_ADDRESS={address}", "mend or unset it, or give --address"
    if address in ("auto", "local"):
        yield Check("ray", "warn", f"{found}: names no cluster, not examined")
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        yield Check("ray", "FAIL", f"{found}: host:port of a Ray head is needed", mend)
        return
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE):
            yield Check("ray", "OK", f"{found}: answers")
    except (OSError, OverflowError) as error:
        yield Check("ray", "FAIL", f"{found}: no Ray head answers ({brief(error)})", mend)
