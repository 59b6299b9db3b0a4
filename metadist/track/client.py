"""A client of MLflow: how long to wait for a store, when to ask again, what its errors mean."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from data_pipeline.errors import DataError
from data_pipeline.storage.local import locked
from metadist.errors import MetadistError, TrackingError
from metadist.process.environment import variables
from metadist.statistics.format import cut
from metadist.track import sqlite_schema
from metadist.track.uris import is_server, public_uri, sqlite_path, whole_uri, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Seconds to wait for a first answer. Later requests may take MLFLOW_HTTP_REQUEST_TIMEOUT.
FIRST_ANSWER_SECONDS = 5
#: What mlflow reads from the environment, unless the user has said otherwise. It asks seven times
#: over four minutes by default; here whoever asks decides whether and when to ask again.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a model's folder must not take up files of the directory
}
#: They report each migration of a fresh database, and each failed request with a traceback; what
#: an error says is told by whoever has asked.
_TALKATIVE = ("alembic.runtime.migration", "alembic.runtime.plugins", "mlflow.store.db.utils")
#: Attempts, and the seconds that the first waits at most; each later one twice as long.
_ATTEMPTS = 6
_SECONDS = 0.2
#: What SQLite, PostgreSQL, MySQL and SQL Server say where two have looked for a row, found none and
#: made it.
_CONFLICT = re.compile(
    r"IntegrityError|UNIQUE constraint|duplicate key|Duplicate entry|RESOURCE_ALREADY_EXISTS"
    r"|deadlock",
    re.IGNORECASE,
)
# Not the process's generator, whose state is its user's.
_random = random.Random()
#: States of a run that takes no more points.
GONE = ("deleted", "missing")
#: What to do about what SQLite says.
_CURES = {
    "database is locked": "Another process holds it: wait for it, or end it",
    "readonly database": "Let this user write to it and to its folder",
    "database or disk is full": "Make room",
    "unable to open database file": "Put its folder back, or let this user write to it",
    "no such table": "Put the file back: this one is empty or none of MLflow's",
}
_AUTOFLUSH = re.compile(r"\(raised as a result of Query-invoked autoflush")


@contextlib.contextmanager
def settings(**more: str) -> Iterator[None]:
    """Make requests inside this block: mlflow waits and is as quiet as whoever asks needs it.

    Args:
        more: variables of the environment for this block alone.
    """

    def silence(_record: logging.LogRecord) -> bool:  # of this block: others have their own
        return False

    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(silence)
    try:
        with variables({**_ENVIRONMENT, **more}):
            yield
    finally:
        for name in _TALKATIVE:
            logging.getLogger(name).removeFilter(silence)


def impatient() -> contextlib.AbstractContextManager[None]:
    """:func:`settings` that wait only seconds for an answer, unless the user has set how long.

    It is for a start, when nobody else of this process sends requests.
    """
    return settings(MLFLOW_HTTP_REQUEST_TIMEOUT=str(FIRST_ANSWER_SECONDS))


def connect(uri: str) -> MlflowClient:
    """A client of the store at ``uri``, to be used inside :func:`settings`; a SQLite store is made
    if there is none.

    Raises:
        TrackingError: the store cannot be opened.
    """
    from mlflow import MlflowClient

    uri = whole_uri(uri)
    path = sqlite_path(uri)
    with explained(uri), contextlib.ExitStack() as first:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if sqlite_schema.revision(path) is None:
                first.enter_context(_alone(path))  # it takes seconds: one is enough
            if not path.exists():
                log.info("making the tracking store %s (a few seconds)", path)
                sqlite_schema.make_store(path)
            sqlite_schema.check_schema(path, uri)
        client = MlflowClient(tracking_uri=uri)
        if path is not None:
            client.search_experiments(max_results=1)
        return client


@contextlib.contextmanager
def store_client(uri: str) -> Iterator[MlflowClient]:
    """A client for requests of a start, whose failures are :func:`explained`."""
    with impatient(), explained(uri):
        yield connect(uri)


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Say what a request of this block that fails means to the user; errors of ours go through.

    Raises:
        TrackingError: a request has failed.
    """
    try:
        yield
    except (MetadistError, DataError):
        raise
    except Exception as error:
        if "out-of-date database schema" in str(error):
            shown, reason = public_uri(uri), "out-of-date schema"
            raise sqlite_schema.schema_error(shown, reason, older=True) from error
        cures = (cure for said, cure in _CURES.items() if said in str(error))
        cure = next(cures, "Start it or mend its address (--tracking-uri or MLFLOW_TRACKING_URI)")
        raise TrackingError(
            f"the tracking store {public_uri(uri)} cannot be used: {brief(error)}. {cure}, or go "
            "on without it (--offline); what was not sent can be sent later with `metadist sync "
            "RUN`"
        ) from error


def _alone(path: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a lock that belongs to ``path``, outside of its folder."""
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    name = Path(tempfile.gettempdir()) / f"metadist-tracking-{os.getuid()}-{digest}.lock"
    return locked(name)


def brief(error: BaseException) -> str:
    """The first line of an error, shortened; without passwords."""
    reason = re.search(r"\(Caused by \w+\([\"'](.*)[\"']\)\)", str(error))
    text = reason[1] if reason else str(error)
    lines = [
        line for line in without_secrets(text).strip().splitlines() if not _AUTOFLUSH.match(line)
    ]
    return cut((lines or [type(error).__name__])[0], 300)


def run_state(client: MlflowClient, run_id: str) -> str:
    """``active``, ``deleted``, ``missing``, or an empty string if the store does not say.

    Only the store's own word counts: a proxy's 404 while a server restarts does not.
    """
    from mlflow.exceptions import MlflowException, RestException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage)
    except MlflowException as error:
        own = isinstance(error, RestException) or not is_server(client.tracking_uri)
        return "missing" if own and error.error_code == "RESOURCE_DOES_NOT_EXIST" else ""
    except Exception:
        return ""


def gone_error(uri: str, run_id: str, state: str) -> TrackingError:
    """The error for a run directory whose MLflow run is ``deleted`` or ``missing``."""
    if state == "deleted":
        cure = f"restore it (mlflow runs restore --run-id {run_id})"
    else:
        cure = "name the store that has it with --tracking-uri"
    return TrackingError(
        f"the MLflow run {run_id} of this run directory is {state} in {public_uri(uri)}; {cure}, "
        "or go on without MLflow (--offline)"
    )


def retry_on_conflict(action: Callable[[], Result]) -> Result:
    """The result of what may be done again, and is if another process has got in between.

    Several processes may use a fresh store at the same moment.
    """
    for number in range(_ATTEMPTS - 1):
        try:
            return action()
        except Exception as error:
            if not _CONFLICT.search(str(error)):
                raise
            time.sleep(_random.uniform(0, _SECONDS * 2**number))
    return action()
