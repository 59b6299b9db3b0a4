"""``evaluation/diagnostics.json``: what explains a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_pipeline.storage.local import read_json
from metadist.runs.readers.fields import count, mapping, real, reals, text

FILE = "diagnostics.json"
_COUNTS = ("adaptation_steps", "queries", "episodes", "failed_episodes", "tasks", "failed_tasks")
#: Most numbers of one name that are written to the file and taken from it.
MOST_NUMBERS = 1000
#: Of a title or caption.
_MOST_LETTERS = 1000


class Caption(NamedTuple):
    """What a quantity is called, and how its figure is read."""

    title: str
    text: str


@dataclass(frozen=True)
class Diagnostics:
    """Numbers that explain a run; NaN where there is none.

    Attributes:
        learned_quantities: quantity -> name -> numbers, at least one.
        similarity: CKA by layer.
        alignment: mean cosine by parameter, and ``all``.
        adaptation_steps, queries, episodes, failed_episodes: of the similarity.
        tasks, failed_tasks: of the alignment.
        captions: of quantities, as the learner describes them.
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
    captions: Mapping[str, Caption] = field(default_factory=dict)


def read_diagnostics(path: Path) -> Diagnostics:
    """Read the file.

    Raises:
        UNREADABLE: missing or damaged.
    """
    raw = read_json(path)
    return Diagnostics(
        learned_quantities=_quantities(raw),
        similarity=_numbers(raw["feature_similarity"], "feature_similarity"),
        alignment=_numbers(raw["gradient_alignment"], "gradient_alignment"),
        **{name: count(raw[name], name) for name in _COUNTS},
        captions=_captions(raw),
    )


def read_learned_quantities(path: Path) -> dict[str, dict[str, tuple[float, ...]]]:
    """The same of what was learned alone."""
    return _quantities(read_json(path))


def _quantities(raw: Any) -> dict[str, dict[str, tuple[float, ...]]]:
    found = {
        quantity: {
            name: reals(values, name, MOST_NUMBERS)
            for name, values in mapping(by_name, quantity).items()
        }
        for quantity, by_name in mapping(raw["findings"], "findings").items()
    }
    return {quantity: by_name for quantity, by_name in found.items() if by_name}


def _numbers(values: Any, name: str) -> dict[str, float]:
    return {key: real(value, key) for key, value in mapping(values, name).items()}


def _captions(raw: Any) -> dict[str, Caption]:
    """Title and caption of each quantity that the learner describes."""
    found = {}
    for quantity, told in mapping(raw.get("captions", {}), "captions").items():
        if not isinstance(told, list) or len(told) != 2:
            raise ValueError(f"captions: a title and a caption are needed of {quantity}")
        title, caption = (text(part, quantity)[:_MOST_LETTERS] for part in told)
        found[quantity] = Caption(title, caption)
    return found
