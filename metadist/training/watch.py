"""Somebody who is told of every validation of a run and decides whether it goes on."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """A search that judges its trials while they run.

    Rank 0 asks, when the state that was validated is in a checkpoint; all workers do what it says.
    """

    def goes_on(self, step: int, score: float, best: float) -> bool:
        """Whether the run goes on after a validation.

        Args:
            step: outer steps done.
            score: on validation episodes; NaN where one of them failed and no mean can be trusted.
            best: the best score so far; NaN if there is none.
        """
