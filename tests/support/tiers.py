"""Which values of a parameter a test sees by default, and which in the slow tier alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def one_in(number: int, values: Iterable[Any]) -> list[Any]:
    """The first of every ``number`` values by default; the others are slow."""
    return [
        pytest.param(value, marks=[pytest.mark.slow] if turn % number else [])
        for turn, value in enumerate(values)
    ]


def each_pair(
    first: str, firsts: Collection[str], second: str, seconds: Collection[str], one_in: int
) -> pytest.MarkDecorator:
    """A slow test for each pair, of which CI runs one in ``one_in``: each value of either in turn.

    What grows with the product of two rooms would else not be run for every change for long.
    """
    return pytest.mark.parametrize(
        (first, second),
        [
            pytest.param(
                a, b, marks=[pytest.mark.slow, *[pytest.mark.long] * bool((i + j) % one_in)]
            )
            for i, a in enumerate(firsts)
            for j, b in enumerate(seconds)
        ],
    )
