"""Values of a JSON file, each checked to be what it has to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Nobody counts further in a few-shot protocol.
_MOST = 10**9


def count(value: Any, name: str, least: int = 0, most: int = _MOST) -> int:
    """A whole number from ``least`` to ``most``; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        needed = f"{least}" if least == most else f"a whole number from {least} to {most}"
        raise ValueError(f"{name}: {needed} is needed, got {str(value)[:40]!r}")
    return value


def real(value: Any, name: str) -> float:
    """A number, NaN where JSON has null; raises ValueError."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e308:
        raise ValueError(f"{name}: a number is needed, got {str(value)[:40]!r}")
    return float(value)


def reals(value: Any, name: str, most: int = 1 << 16) -> tuple[float, ...]:
    """A list of numbers, at least one; raises ValueError."""
    if not isinstance(value, list) or not 0 < len(value) <= most:
        raise ValueError(f"{name}: a list of numbers is needed, got {str(value)[:40]!r}")
    return tuple(real(v, name) for v in value)


def text(value: Any, name: str) -> str:
    """A text; raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: text is needed, got {str(value)[:40]!r}")
    return value


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Names with values; raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name}: names with values are needed, got {str(value)[:40]!r}")
    return value
