"""Accuracy by instance: how often the first, second, ... example of a class is told in sequence.

Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML 2016, tables 1 and 2. Of
the first example of an episode nothing is known: it is told as often as guessing does, 1 / N.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from metadist.statistics.format import finite

#: Those that are printed, in tables and as metrics; the others are in files and pictures.
PRINTED = (1, 2, 3, 4, 5, 10)


@dataclass(frozen=True)
class ByInstance:
    """Fractions over all test episodes; NaN where there are none.

    Attributes:
        first_example: of the very first examples of episodes.
        accuracy: of the first, second, ... examples of their class.
    """

    first_example: float
    accuracy: tuple[float, ...]

    @classmethod
    def of(cls, right: Sequence[int], shown: Sequence[int]) -> Self:
        """From counts: of the first examples of episodes, then of each instance."""
        first, *others = (r / n if n else math.nan for r, n in zip(right, shown, strict=True))
        return cls(first, tuple(others))

    @property
    def printed(self) -> dict[int, float]:
        """Accuracies by instance, those that are :data:`PRINTED`."""
        count = len(self.accuracy)
        return {k: self.accuracy[k - 1] for k in PRINTED if k <= count}

    @property
    def points(self) -> dict[str, float]:
        """As metrics, by name; what is finite."""
        named = {f"accuracy_instance_{k}": value for k, value in self.printed.items()}
        named["accuracy_first_example"] = self.first_example
        return {name: value for name, value in named.items() if math.isfinite(value)}

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        return {
            "first_example": finite(self.first_example),
            "instances": [finite(value) for value in self.accuracy],
        }

    @classmethod
    def read(cls, told: Any) -> Self:
        """From a record; raises ValueError, KeyError or TypeError where it is none."""
        if not isinstance(told, Mapping) or not isinstance(told["instances"], list):
            raise ValueError("by_instance needs first_example and a list of instances")
        numbers = [told["first_example"], *told["instances"]]
        first, *others = (math.nan if v is None else float(v) for v in numbers)
        if any(not 0 <= v <= 1 for v in (first, *others) if not math.isnan(v)):
            raise ValueError("by_instance: accuracies lie in [0, 1]")
        return cls(first, tuple(others))


def guessed(ways: int) -> float:
    """How many first examples of N classes can be told by who guesses among those not yet shown.

    The k-th class to come up is one of N - k + 1: the mean of 1/N, 1/(N - 1), ..., 1.
    """
    return math.fsum(1 / left for left in range(1, ways + 1)) / ways
