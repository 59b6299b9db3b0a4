"""What ``evaluation/diagnostics.json`` says, checked: anybody may have altered it since."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.storage.local import read_json

#: Numbers of one name that are taken from the file.
_MOST_NUMBERS = 1000


@dataclass(frozen=True)
class Diagnostics:
    """Numbers that explain a run; NaN where there is none.

    Attributes:
        findings: quantity -> name -> numbers, at least one.
        similarity: CKA by layer.
        alignment: mean cosine by parameter, and ``all``.
        adaptation_steps, queries, episodes, failed_episodes: of the similarity.
        tasks, failed_tasks: of the alignment.
    """

    learned_quantities: dict[str, dict[str, tuple[float, ...]]]
    similarity: dict[str, float]
    alignment: dict[str, float]
    adaptation_steps: int
    queries: int
    episodes: int
    failed_episodes: int
    tasks: int
    failed_tasks: int


def read_diagnostics(path: Path, notes: list[str]) -> Diagnostics | None:
    """Read the file; None if there is none. What cannot be read is noted."""
    if not path.is_file():
        return None
    try:
        return _parsed(read_json(path))
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        notes.append(f"evaluation/{path.name} cannot be read: {type(error).__name__}: {error}.")
        return None


def _parsed(raw: Mapping[str, Any]) -> Diagnostics:
    learned_quantities: dict[str, dict[str, tuple[float, ...]]] = {}
    for quantity, by_name in _mapping(raw, "findings").items():
        found = {name: _list(by_name, name) for name in _mapping(raw["findings"], quantity)}
        if found:
            learned_quantities[quantity] = found
    counts = {
        name: _count(raw, name)
        for name in (
            "adaptation_steps", "queries", "episodes", "failed_episodes", "tasks", "failed_tasks",
        )
    }  # fmt: skip
    return Diagnostics(
        learned_quantities=learned_quantities,
        similarity=_numbers(raw, "feature_similarity"),
        alignment=_numbers(raw, "gradient_alignment"),
        **counts,
    )


def _mapping(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw[name]
    if not isinstance(value, dict):
        raise ValueError(f"{name}: names with values are needed, got {str(value)[:40]!r}")
    return value


def _numbers(raw: Mapping[str, Any], name: str) -> dict[str, float]:
    values = _mapping(raw, name)
    return {key: _real(value, key) for key, value in values.items()}


def _list(raw: Mapping[str, Any], name: str) -> tuple[float, ...]:
    value = raw[name]
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_NUMBERS:
        raise ValueError(f"{name}: a list of numbers is needed, got {str(value)[:40]!r}")
    return tuple(_real(v, name) for v in value)


def _real(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e308:
        raise ValueError(f"{name}: a number is needed, got {str(value)[:40]!r}")
    return float(value)


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**9:
        raise ValueError(f"{name}: a whole number is needed, got {str(value)[:40]!r}")
    return value
