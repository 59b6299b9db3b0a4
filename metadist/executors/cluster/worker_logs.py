"""What workers write, brought to the driver: their warnings, and logs in an object store.

Ray's own forwarding mixes warnings with news of Ray. Rank 0 appends our warnings to
``log/messages.txt`` of the run; the driver shows what is new there. Where the run is in an object
store each process has a file of its own, for it may be on another node than the driver.
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

from data_pipeline.errors import DataError
from metadist.process.announce import Announce
from metadist.process.polling import Polling
from metadist.runs.run_dir import RunDir

log = logging.getLogger(__name__)
_LOGGERS = ("metadist", "data_pipeline")


def write_messages(run: Path) -> None:
    """Let this process append its warnings to the run's messages."""
    own = f"-{uuid.uuid4().hex}" if RunDir(run).store.shared else ""
    path = run / "log" / f"messages{own}.txt"
    path.parent.mkdir(exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)


class ShowMessages(Polling):
    """Announces messages that appear while the block runs."""

    interval = 0.5

    def __init__(self, run: Path, announce: Announce) -> None:
        self._log = run / "log"
        self._announce = announce
        self._offsets = {path: path.stat().st_size for path in self._files()}

    def _files(self) -> list[Path]:
        return sorted(self._log.glob("messages*.txt"))

    def look(self) -> None:
        for path in self._files():
            with path.open("rb") as handle:
                handle.seek(self._offsets.get(path, 0))
                data = handle.read()
            complete = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(complete)
            for line in complete.decode(errors="replace").splitlines():
                self._announce(line)


class LogMirror(Polling):
    """Brings what workers on other nodes log in an object store to disk while the block runs.

    The driver's progress line and MLflow read it there.
    """

    interval = 2.0

    def __init__(self, run: RunDir) -> None:
        self._run = run

    def look(self) -> None:
        try:
            self._run.store.pull_logs()
        except DataError as error:
            # Who trains says it too, and waits; what is damaged is said when the run is read.
            log.debug("%s", error)

    def last(self) -> None:
        """Nothing: the driver brings everything, or says why it cannot."""
