"""The store that a run directory names, which may come from a stranger."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.storage.redaction import HIDDEN
from metadist.errors import TrackingError
from metadist.track.client import default_tracking_uri, is_server, public_uri, sqlite_path

#: Variables that say which server is meant, or how, and are no secret.
_NO_SECRET = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_INSECURE_TLS")


def store_of(recorded: str, given: str | None, root: Path, whose: Path) -> str:
    """The store that has a run, or a search, of which a record names one.

    mlflow sends the credentials of the environment to whatever server it is told, and makes its
    tables in whatever file: so the record is believed only if it names what the user names, a file
    that is such a store already, or a server that nothing secret would be sent to.

    Args:
        recorded: see :func:`metadist.track.client.public_uri`.
        given: what the user has asked for now.
        root: the directory that holds the runs directory.
        whose: the run or search, for the message.

    Raises:
        TrackingError: the store has to be named.
    """
    if given is not None:
        return given
    own = default_tracking_uri(root)
    if public_uri(own) == recorded:
        return own
    if HIDDEN in recorded:
        raise TrackingError(
            f"{whose}: its store is {recorded}, and its password is not kept; name the store with "
            "--tracking-uri"
        )
    path = sqlite_path(recorded)
    if path is not None and _is_store(path):
        return recorded
    if is_server(recorded) and not any(_credentials()):
        return recorded
    raise TrackingError(
        f"{whose}: it says that its store is {recorded}, which nobody here has named; if you know "
        "that store, name it with --tracking-uri, or go on without MLflow (--offline)"
    )


def _is_store(path: Path) -> bool:
    with contextlib.suppress(sqlite3.Error, ValueError):
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        with contextlib.closing(database):
            names = database.execute("select name from sqlite_master where type = 'table'")
            return {"alembic_version", "experiments", "runs"} <= {name for (name,) in names}
    return False


def _credentials() -> Iterator[str]:
    """Where mlflow would find some."""
    yield from (
        name
        for name, value in os.environ.items()
        if name.startswith("MLFLOW_TRACKING_") and name not in _NO_SECRET and value
    )
    with contextlib.suppress(OSError, RuntimeError):
        file = Path.home() / ".mlflow" / "credentials"
        if file.exists():
            yield str(file)
