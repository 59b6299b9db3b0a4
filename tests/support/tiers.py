"""Which values of a parameter a test sees by default, and which in the slow tier alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(number: int, values: Iterable[Any]) -> list[Any]:
    """The first of every ``number`` values by default; the others are slow."""
    return [
        pytest.param(value, marks=[pytest.mark.slow] if turn % number else [])
        for turn, value in enumerate(values)
    ]
