"""How many workers: a number, or the fewest and the most."""

from __future__ import annotations

import pytest

from metadist.errors import ResourceError
from metadist.executors.world_size import WorldSize


@pytest.mark.parametrize(
    ("given", "low", "high", "elastic"),
    [(0, 0, 0, False), ("0", 0, 0, False), (4, 4, 4, False), ("2:8", 2, 8, True), ("3:3", 3, 3, 0)],
)
def test_sizes(given: int | str, low: int, high: int, elastic: bool) -> None:
    size = WorldSize.of(given)
    assert (size.low, size.high, size.elastic) == (low, high, bool(elastic))


@pytest.mark.parametrize("given", ["", "two", "-1", "8:2", "0:4", "2:", ":4", "2:4:8", "2.5", -1])
def test_what_is_no_size(given: int | str) -> None:
    with pytest.raises(ResourceError, match="--workers"):
        WorldSize.of(given)


def test_one_machine_has_no_more_workers_than_cores() -> None:
    assert WorldSize.of("1:64").on(4) == WorldSize(1, 4)
    assert WorldSize.of("8").on(4) == WorldSize(8, 8)
    assert WorldSize.of("6:64").on(4) == WorldSize(6, 6)
