"""A run's log, followed into MLflow in the background.

Only what is durable in the log is sent, and training never waits for it. A request that fails is
repeated, with the same points, until it succeeds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.errors import DataError
from data_pipeline.storage.local import read_json, write_atomic
from metadist.runs.log import LogReader, Point
from metadist.runs.run_dir import RunDir
from metadist.track.client import GONE, brief, connect, gone_error, run_state, settings
from metadist.track.ownership import holds
from metadist.track.ui import where_to_look
from metadist.track.upload import BATCH, STATUS, Action, closing, send_points
from metadist.track.uris import public_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

#: Seconds between attempts while the store does not answer: the first, doubled up to the last.
BACKOFF = (0.5, 10.0)
#: Seconds between notes of how far the log was sent.
_NOTE_SECONDS = 5.0
#: Seconds between looks at whose the MLflow run is.
_OWNER_SECONDS = 1.0
#: Uploads that may fail, one after the other, at a store that otherwise answers.
_UPLOAD_FAILURES = 3


@dataclass
class Synchroniser:
    """Sends a run's points to MLflow while they are being written.

    Use: ``start()``; train; then ``finish(status)`` once, or ``stop()`` to leave the MLflow run as
    it is (another attempt has taken over).

    Attributes:
        run: the run directory.
        uri: the tracking store.
        run_id: the MLflow run.
        interval: seconds between looks at the log.
        again: makes an MLflow run if a copy of the directory has taken this one; returns its id.
    """

    run: RunDir
    uri: str
    run_id: str
    interval: float = 1.0
    again: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        self._asked = -math.inf
        self._client: MlflowClient | None = None
        self._reader = LogReader(self.run)
        self._pending: list[Point] = []
        self._cursor = _Cursor(self.run, self.run_id)
        self._skip = max(self._cursor.read() - BATCH, 0)
        self._ending: tuple[str, tuple[Path, ...]] | None = None
        self._closing: list[Action] | None = None
        self._failures = self._refused = 0
        self._gone = ""
        self._complete = True
        self._deadline = math.inf
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._done = threading.Event()
        self._settings = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._work, name="mlflow-sync", daemon=True)

    def start(self) -> Synchroniser:
        """Begin to send; returns itself."""
        self._settings.enter_context(settings())
        self._thread.start()
        return self

    def finish(
        self, status: str, wait_seconds: float = 300.0, *, checkpoints: Sequence[Path] = ()
    ) -> bool:
        """Send everything that is left, then artifacts and final tags, and end the MLflow run.

        Call it when run.json holds the final status and result and the report is written.

        Args:
            status: ``finished``, ``failed`` or ``killed``.
            wait_seconds: how long to wait for a store that does not answer.
            checkpoints: checkpoint directories to send along.

        Returns:
            Whether all of it arrived. If not, a message says how to send it later.
        """
        if status not in STATUS:
            raise ValueError(f"status: one of {', '.join(STATUS)} is needed, got {status!r}")
        self._ending = (status, tuple(checkpoints))
        self.hurry(wait_seconds)
        while self._thread.is_alive() and time.monotonic() < self._deadline and not self._gone:
            self._wake.set()
            self._done.wait(min(1.0, max(self._deadline - time.monotonic(), 0.0)))
        self.stop(wait_seconds=1.0)
        arrived = self._done.is_set() and self._complete
        if not arrived:
            log.error(
                "not everything of this run has reached %s. Nothing is lost: it is all in %s. "
                "Send it once the store answers: metadist sync %s",
                public_uri(self.uri),
                self.run.path,
                shlex.quote(str(self.run.path)),  # runs of a search are found by no name
            )
        return arrived

    def hurry(self, seconds: float) -> None:
        """Let :meth:`finish` wait no longer than so many seconds from now."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def where_to_look(self) -> str:
        """How to see the run; see :func:`metadist.track.ui.where_to_look`."""
        return where_to_look(self.uri, self.run_id)

    def stop(self, wait_seconds: float = 20.0) -> None:
        """Send no more. What was not sent can be sent later; the MLflow run is left as it is."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)
        self._settings.close()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                more = self._round()
            except Exception as error:
                self._failed(error)
                delay = min(BACKOFF[0] * 2 ** min(self._failures - 1, 10), BACKOFF[1])
            else:
                self._succeeded()
                delay = 0.0 if more else self.interval
            if self._done.is_set():
                break
            if delay:
                self._wake.wait(delay)
                self._wake.clear()
        self._cursor.write()

    def _round(self) -> bool:
        """One request at most; whether there is more to do at once."""
        if self._client is None:
            self._client = connect(self.uri)
        ending = self._ending  # before the poll: what is written before finish() is then seen
        if not self._pending:
            self._poll()
        if self._pending or ending is not None:
            self._check_owner()
        if self._pending:
            batch = self._pending[:BATCH]
            send_points(self._client, self.run_id, batch)
            del self._pending[: len(batch)]
            self._cursor.advance(len(batch))
            return True
        if ending is None:
            return False
        if self._closing is None:
            self._closing = closing(self._client, self.run_id, self.run, *ending)
        if self._closing:
            self._closing[0].run()
            del self._closing[0]
            return True
        self._done.set()
        return False

    def _check_owner(self) -> None:
        """Two copies of a directory may have been started at once, even where neither sees it."""
        recent = time.monotonic() - self._asked < _OWNER_SECONDS
        if self._client is None or self.again is None or recent:
            return
        if not holds(self._client, self.run, self.run_id):
            self.run_id, self._closing = self.again(self.run_id), None
            self._cursor = _Cursor(self.run, self.run_id)
            self._reader, self._skip = LogReader(self.run), 0
            self._pending.clear()
            self._poll()
        self._asked = time.monotonic()

    def _poll(self) -> None:
        try:
            points = self._reader.poll()
        except (OSError, DataError):
            # What this reader had already taken is lost with it: begin again. Points that were
            # sent before vanish in MLflow.
            self._reader = LogReader(self.run)
            self._cursor.sent = self._skip = 0
            raise
        if self._skip:  # sent by an earlier attempt, and noted
            skipped = min(self._skip, len(points))
            self._skip -= skipped
            self._cursor.advance(skipped)
            points = points[skipped:]
        self._pending.extend(points)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning(
                "MLflow: %s does not take points (%s). Training goes on; they are kept in %s and "
                "sent as soon as it does",
                public_uri(self.uri),
                brief(error),
                self.run.log,
            )
        if self._client is None:
            return
        state = run_state(self._client, self.run_id)
        if state in GONE and not self._gone:
            self._gone = state
            log.error("%s", gone_error(self.uri, self.run_id, state))
        elif state == "active" and self._closing and self._closing[0].upload:
            self._upload_failed(self._closing[0].upload, error)

    def _upload_failed(self, path: Path, error: Exception) -> None:
        """Points arrive but files do not: a server whose artifact store this machine cannot reach
        is a common mistake, and no reason to leave the run open."""
        self._refused += 1
        if self._refused < _UPLOAD_FAILURES or self._closing is None:
            return
        log.error("MLflow: files cannot be stored (%s: %s); going on without", path, brief(error))
        self._closing = [action for action in self._closing if not action.upload]
        self._complete = False

    def _succeeded(self) -> None:
        if self._failures:
            log.warning("MLflow: %s takes points again", public_uri(self.uri))
        self._failures = self._refused = 0
        self._gone = ""


class _Cursor:
    """How many of the log's points, in reading order, have been sent: ``log/sent.json``.

    It only spares a resumed run to send everything again: a note that is missing or behind costs
    time, and readers step back by one request from what it says.
    """

    def __init__(self, run: RunDir, run_id: str) -> None:
        self._path = run.log / "sent.json"
        self._run_id = run_id
        self.sent = 0
        self._written = 0
        self._at = time.monotonic()

    def read(self) -> int:
        """What an earlier attempt noted; 0 if nothing."""
        try:
            note = read_json(self._path)
            return int(note["sent"]) if note["run_id"] == self._run_id else 0
        except (DataError, OSError, KeyError, TypeError, ValueError):
            return 0

    def advance(self, points: int) -> None:
        """So many more were sent."""
        self.sent += points
        if time.monotonic() - self._at > _NOTE_SECONDS:
            self.write()

    def write(self) -> None:
        """Make the note durable. A disk that refuses it costs only the note."""
        self._at = time.monotonic()
        if self.sent == self._written:
            return
        try:
            note = {"run_id": self._run_id, "sent": self.sent}
            write_atomic(self._path, json.dumps(note, sort_keys=True).encode())
            self._written = self.sent
        except OSError as error:
            log.debug("%s: %s", self._path, error)
