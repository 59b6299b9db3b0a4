"""Where a tracking store is: the URI that is meant, that others may see, that a record has."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from data_pipeline.storage.object_uri import cache_directory
from data_pipeline.storage.redaction import HIDDEN, without_users
from data_pipeline.storage.typed_paths import typed_path
from metadist.errors import TrackingError
from metadist.track.sqlite_schema import is_store

_QUERY_VALUE = re.compile(r"([?&][^=&#]*)=[^&#]*")
_SQLITE = re.compile(r"sqlite(\+\w+)?:///(?P<path>[^?]+)")
#: A folder: MLflow has stores that are called by a word too.
_FOLDER = re.compile(r"(?P<scheme>file:(//)?)?(?P<path>[.~/].*)")
#: Variables that say which server is meant, or how, and are no secret.
_NO_SECRET = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_INSECURE_TLS")


def default_tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI if set, else the SQLite file ``mlflow.db`` in ``root``.

    Artifacts of a SQLite store go to ``mlruns`` beside it.

    Args:
        root: the directory that holds the runs directory.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if given:
        return whole_uri(given)
    if root.resolve().is_relative_to(cache_directory()):
        root = Path.cwd()  # nobody would look for it among working copies of an object store
    path = root.resolve() / "mlflow.db"
    if set("?%") & set(str(path)):
        raise TrackingError(
            f"{path}: MLflow cannot keep its SQLite file under a path with '?' or '%'; use another "
            "--runs-dir, --tracking-uri, or --offline"
        )
    return f"sqlite:///{path}"


def public_uri(uri: str) -> str:
    """``uri`` without user, password and values of its query, for messages and shared files."""
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme.startswith(("sqlite", "file")):
        return uri
    return without_secrets(uri)


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    match = _SQLITE.fullmatch(uri.partition("?")[0])
    return typed_path(match["path"]).absolute() if match else None


def whole_uri(uri: str) -> str:
    """``uri`` with the path of a file or folder made absolute: other processes stand elsewhere."""
    match = _SQLITE.match(uri) or _FOLDER.fullmatch(uri)
    if match is None:
        return uri
    path = typed_path(match["path"]).absolute()
    return f"{uri[: match.start('path')]}{path}{uri[match.end('path') :]}"


def is_server(uri: str) -> bool:
    """Whether requests to this store go over HTTP."""
    return urlsplit(uri).scheme in ("http", "https")


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where artifacts of a SQLite store's experiment go; None leaves it to the store."""
    path = sqlite_path(uri)
    if path is None:
        return None
    folder = re.sub(r"[^\w.-]", "_", experiment).lstrip(".") or "_"
    return (path.parent / "mlruns" / folder).as_uri()


def without_secrets(text: str) -> str:
    """``text`` without users, passwords and values of queries."""
    return _QUERY_VALUE.sub(rf"\1={HIDDEN}", without_users(text))


def store_of(recorded: str, given: str | None, root: Path, whose: Path) -> str:
    """The store that has a run, or a search, of which a record names one.

    mlflow sends the credentials of the environment to whatever server it is told, and makes its
    tables in whatever file: so the record is believed only if it names what the user names, a file
    that is such a store already, or a server that nothing secret would be sent to.

    Args:
        recorded: see :func:`public_uri`.
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
    if path is not None and is_store(path):
        return recorded
    if is_server(recorded) and not _has_credentials():
        return recorded
    raise TrackingError(
        f"{whose}: it says that its store is {recorded}, which nobody here has named; if you know "
        "that store, name it with --tracking-uri, or go on without MLflow (--offline)"
    )


def _has_credentials() -> bool:
    """Whether mlflow would find some."""
    named = {name for name, value in os.environ.items() if value} - set(_NO_SECRET)
    if any(name.startswith("MLFLOW_TRACKING_") for name in named):
        return True
    with contextlib.suppress(OSError, RuntimeError):
        return (Path.home() / ".mlflow" / "credentials").exists()
    return False
