"""What is timed beside each other computes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks import peers
from tests.benchmarks.higher_maml import HigherMAML

SMALL = [
    replace(p, image=(28, 28, 1), filters=4, tasks=2, queries=1, inner_steps=2)
    for p in peers.PROBLEMS[1:]
]


@pytest.mark.slow
@pytest.mark.parametrize("problem", SMALL, ids=lambda problem: problem.name)
def test_the_gradients_are_equal_before_anything_is_timed(problem) -> None:
    found = peers.exactness(problem)
    assert max(found["ours"], found["higher"]) < 1e-12
    times = peers.timed(problem, rounds=2)
    assert times["plain"]["against_plain"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert all(
        times[name]["tasks_per_cpu_second"]["min"] > 0 for name in ("ours", "torch", "higher")
    )


@pytest.mark.slow
def test_nothing_is_timed_where_gradients_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneStepTooFew(HigherMAML):
        def __init__(self, params, inner_lr, inner_steps, pool) -> None:
            super().__init__(params, inner_lr, inner_steps - 1, pool)

    monkeypatch.setattr(peers, "HigherMAML", OneStepTooFew)
    with pytest.raises(ValueError, match="gradients differ"):
        peers.exactness(SMALL[0])
