"""Where values and scores lie on an axis from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metadist.search.report.data import SearchData, value_text
from metadist.space import Choice, Domain, Integers, LogUniform, When
from metadist.statistics.format import logarithmic

#: Values of a domain that each have a tick.
_TICKED = 7


@dataclass(frozen=True)
class Scale:
    """Numbers from ``low`` to ``high``, the latter larger; both positive if ``log``."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Where a number lies: 0 at ``low``, 1 at ``high``; not finite: NaN."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return math.nan
        a, b, v = self._at(self.low), self._at(self.high), self._at(value)
        return (v - a) / (b - a)

    def value(self, place: float) -> float:
        """What lies at a place."""
        a, b = self._at(self.low), self._at(self.high)
        there = a + place * (b - a)
        return math.exp(there) if self.log else there

    def _at(self, value: float) -> float:
        return math.log(value) if self.log else value

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers within the scale."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
                rounds = [m * 10.0**e for e in range(first, last + 1) for m in digits]
                found = [t for t in rounds if self._inside(t)]
                if len(found) >= 3:
                    return found[:: math.ceil(len(found) / most)]
            return [self.low, self.high]
        rough = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _inside(self, value: float) -> bool:
        return self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)


@dataclass(frozen=True)
class KeyAxis:
    """The values of a searched key.

    Attributes:
        scale: None: they are categories.
        values: all there are, in order, where they are few; of a grid, all that are tried.
    """

    scale: Scale | None
    values: tuple[Any, ...]

    def place(self, value: Any) -> float:
        """Where a value lies, from 0 to 1 within the domain; NaN: nowhere."""
        if self.scale is not None:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return math.nan
            return self.scale.place(value)
        for index, known in enumerate(self.values):
            # 1 and true are equal in Python, and two values in a recipe.
            if type(known) is type(value) and known == value:
                return index / max(len(self.values) - 1, 1)
        return math.nan

    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts."""
        values = self.values
        if self.scale is not None and not 0 < len(values) <= _TICKED:
            values = tuple(self.scale.ticks())
        return [(self.place(v), value_text(v)) for v in values]


def key_axis(domain: Domain, *, grid: bool = False) -> KeyAxis:
    """The axis of a domain.

    Args:
        grid: only the points of a grid search are tried.
    """
    if isinstance(domain, When):
        return key_axis(domain.then, grid=grid)
    if isinstance(domain, Choice):
        return KeyAxis(None, domain.values)
    log = domain.log if isinstance(domain, Integers) else isinstance(domain, LogUniform)
    values = tuple(domain.points()) if grid else ()
    if isinstance(domain, Integers) and not grid and domain.high - domain.low < _TICKED:
        values = tuple(range(domain.low, domain.high + 1))
    return KeyAxis(Scale(float(domain.low), float(domain.high), log), values)


def key_axes(data: SearchData) -> dict[str, KeyAxis]:
    """The axis of every searched key, in order."""
    grid = data.space.searcher == "grid"
    return {key: key_axis(domain, grid=grid) for key, domain in data.space.search.items()}


def score_scale(data: SearchData, scores: Sequence[float]) -> Scale:
    """From the least to the greatest score; logarithmic for errors above 0."""
    finite = [s for s in scores if math.isfinite(s)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    log = logarithmic(data.metric, finite or [low])
    if high <= low:
        low, high = (low / 1.5, high * 1.5) if log else (low - 0.5, high + 0.5)
    return Scale(low, high, log)
