"""How a driver reaches the workers of a group on its own machine: a file that they look for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metadist.training.run_control import Order


@dataclass(frozen=True)
class Note:
    """While the file is there, the workers are to leave.

    Attributes:
        path: of the file, in a directory that is there.
    """

    path: Path

    def write(self) -> None:
        """Let the workers know; they look about once a second."""
        self.path.touch()

    def clear(self) -> None:
        """Nothing is wanted, or not any more."""
        self.path.unlink(missing_ok=True)

    def order(self) -> Order:
        """See :class:`metadist.training.run_control.Orders`."""
        return "leave" if self.path.exists() else "go on"
