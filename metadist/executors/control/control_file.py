"""How a driver reaches the workers of a group on its own machine: a file that they look for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metadist.training.run_control import Command, Progress


@dataclass(frozen=True)
class ControlFile:
    """While the file is there, the workers are to yield. The driver writes, rank 0 reads.

    Attributes:
        path: of the file, in a directory that is there.
    """

    path: Path
    judges = False

    def send_yield(self) -> None:
        """Let the workers know; they look about once a second."""
        self.path.touch()

    def clear(self) -> None:
        """Nothing is wanted, or not any more."""
        self.path.unlink(missing_ok=True)

    def command(self, progress: Progress) -> Command:
        """See :class:`metadist.training.run_control.RunControl`."""
        return "yield" if self.path.exists() else "go"
