"""What the workers have to say, brought to the operator's terminal.

Ray's own forwarding mixes it with news of Ray. Rank 0 appends our warnings to
``log/messages.txt`` of the run; the driver shows what is new there.
"""

from __future__ import annotations

import logging
from pathlib import Path

from metadist.launch.job import Announce
from metadist.polling import Polling

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


class ShowMessages(Polling):
    """Announces messages that appear while the block runs."""

    def __init__(self, run: Path, announce: Announce) -> None:
        super().__init__(_POLL_SECONDS)
        self._path = messages_path(run)
        self._announce = announce
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def look(self) -> None:
        """Announce the complete lines that are new."""
        if not self._path.exists():
            return
        with self._path.open("rb") as handle:
            handle.seek(self._offset)
            data = handle.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.decode(errors="replace").splitlines():
            self._announce(line)
