"""What the workers have to say, brought to the operator's terminal.

Ray's own forwarding mixes it with news of Ray. Rank 0 appends our warnings to
``log/messages.txt`` of the run; the driver shows what is new there.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType

from metadist.launch.job import Announce

_LOGGERS = ("metadist", "data_pipeline")
_POLL_SECONDS = 0.5


def messages_path(run: Path) -> Path:
    """Where a run's messages lie."""
    return run / "log" / "messages.txt"


def write_messages(run: Path) -> None:
    """Let this process append its warnings to the run's messages."""
    path = messages_path(run)
    path.parent.mkdir(exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)


class ShowMessages:
    """Announces messages that appear while the block runs."""

    def __init__(self, run: Path, announce: Announce) -> None:
        self._path = messages_path(run)
        self._announce = announce
        self._offset = self._path.stat().st_size if self._path.exists() else 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> ShowMessages:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _follow(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as handle:
            handle.seek(self._offset)
            data = handle.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.decode(errors="replace").splitlines():
            self._announce(line)
