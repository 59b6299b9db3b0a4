"""The simulated group of the numerical tests; which learners a test meets by default."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from tests.contract.cases import ALGORITHMS
from tests.numerics.conftest import run_group

__all__ = ["run_group"]

HERE = Path(__file__).parent
#: By default one learner in so many, each test others: the cross-section does not grow with them.
ONE_IN = 4
#: What is about its own learners.
OWN = ("test_learning", "test_mutations")


def learner_of(item: pytest.Item) -> str | None:
    """The learner that a test is about."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    case = item.callspec.params.get("case")
    name = item.callspec.params.get("algorithm", getattr(case, "algorithm", None))
    return name if name in ALGORITHMS else None


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent != HERE or item.path.stem in OWN:
            continue
        if (name := learner_of(item)) is not None:
            first = zlib.crc32(item.nodeid.partition("[")[0].rpartition("::")[2].encode())
            if (ALGORITHMS.index(name) + first) % ONE_IN:
                item.add_marker(pytest.mark.slow)
