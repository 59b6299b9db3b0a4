"""Telling the operator what is happening, a line at a time."""

from __future__ import annotations

from collections.abc import Callable

Announce = Callable[[str], None]


def quiet(line: str) -> None:
    """Nobody to tell."""
