"""How many workers a run takes: a number, or as many as the cluster has between two."""

from __future__ import annotations

import re
from dataclasses import dataclass

from metadist.errors import ResourceError

_RANGE = re.compile(r"(\d{1,6})(?::(\d{1,6}))?")


@dataclass(frozen=True)
class WorldSize:
    """At least ``low`` Ray workers and at most ``high``; 0 of them means this process alone."""

    low: int
    high: int

    @classmethod
    def of(cls, given: int | str) -> WorldSize:
        """``4``, ``"4"`` or ``"2:8"``.

        Raises:
            ResourceError: it is none of these.
        """
        match = _RANGE.fullmatch(str(given))
        if match is None:
            raise ResourceError(
                f"--workers {given}: a number is needed, or the fewest and the most as in 2:8"
            )
        low = int(match[1])
        high = low if match[2] is None else int(match[2])
        if high < low or (low == 0 and high > 0):
            raise ResourceError(
                f"--workers {given}: the fewest workers come first and are at least 1, as in 2:8"
            )
        return cls(low, high)

    @property
    def elastic(self) -> bool:
        """Whether the size may change while the run goes on."""
        return self.low < self.high

    def on(self, cores: int) -> WorldSize:
        """The same on one machine: no more workers than cores, if fewer are enough."""
        return WorldSize(self.low, max(self.low, min(self.high, cores)))

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" if self.elastic else str(self.low)


#: No workers: this process alone.
IN_PROCESS = WorldSize(0, 0)
