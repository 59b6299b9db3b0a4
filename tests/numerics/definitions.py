"""All definitions there are, by the name of the algorithm.

An algorithm whose estimator is not ``exact`` must stand in ``DEFINITIONS``, one that does not
meta-learn (``none``) in ``PREDICTIONS``; any other may. Each ``<family>_reference.py`` of this
folder is found by its name.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TypeVar

from tests.numerics import reference
from tests.numerics.reference import Definition, Prediction

T = TypeVar("T")

FAMILIES = [
    reference,
    *(
        import_module(f"tests.numerics.{path.stem}")
        for path in sorted(Path(__file__).parent.glob("*_reference.py"))
    ),
]


def _joined(what: str) -> dict[str, T]:
    joined: dict[str, T] = {}
    for family in FAMILIES:
        some: dict[str, T] = getattr(family, what, {})
        twice = sorted(set(some) & set(joined))
        assert not twice, f"{what} has more than one of {twice}; the last in {family.__name__}"
        joined.update(some)
    return joined


DEFINITIONS: dict[str, Definition] = _joined("DEFINITIONS")
PREDICTIONS: dict[str, Prediction] = _joined("PREDICTIONS")
