"""What an objective says of episodes, summed exactly over any number of workers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.compute.collectives import Group, Solo
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.protocols import EvalProtocol
from metadist.evaluation.score_table import ScoreTable
from metadist.keys import Key
from metadist.objectives import MSE, NLL
from metadist.objectives.density import CENTRAL_95, Density
from metadist.tasks import Examples, Prediction
from tests.numerics.conftest import RunGroup
from tests.numerics.reference import CLOSED_FORM, OTHER

N, E = 5, 2
EPISODES, STEPS = 7, 2
HOW = EvalProtocol("test-5q", "test", 1, N, EPISODES, 0, STEPS, STEPS)


def numbers(name: str, *shape: int) -> Tensor:
    return Key.of("objectives", name).normal(shape, torch.float64)


def targets() -> Examples:
    return Examples(y=numbers("y", N, E))


def flat(p: Prediction, target: Examples) -> list[tuple[float, float, float]]:
    """Mean, scale and target of each number."""
    assert p.scale is not None
    columns = (t.reshape(-1).tolist() for t in (p.mean, p.scale, target.y))
    return list(zip(*columns, strict=True))


def spread(episode: int, step: int) -> Prediction:
    name = f"{episode}/{step}"
    scale = 10.0 ** (3 * numbers(name, N, E).tanh())
    mean = numbers(f"{name} mean", N, E)
    if (episode, step) == (3, 1):
        mean[0, 0] = math.nan
    return Prediction(mean, scale)


def judged(group: Group) -> Evaluation:
    table = ScoreTable(Density(), HOW)
    first, last = (rank * EPISODES // group.size for rank in (group.rank, group.rank + 1))
    for episode in range(first, last):
        table.write_all(episode, [spread(episode, s) for s in range(STEPS + 1)], targets())
    table.sum(group)
    return table.evaluation(1, "e", frozenset({"latent"}))


def check_pooled(run_group: RunGroup) -> None:
    alone = judged(Solo())
    for size in (1, 2, 3, 9):
        for found in run_group(size, judged):
            for name, column in alone.columns.items():
                assert found.columns[name].tobytes() == column.tobytes()
            assert found.failed.tobytes() == alone.failed.tobytes()
            assert found.pooled == alone.pooled
    for step in range(STEPS + 1):
        kept = [e for e in range(EPISODES) if (e, step) != (3, 1)]
        inside = Fraction(0)
        for episode in kept:
            for m, s, y in flat(spread(episode, step), targets()):
                inside += abs(y - m) <= CENTRAL_95 * s
        assert alone.pooled[step] == {"coverage_95": float(inside / (len(kept) * N * E))}


def test_what_is_pooled_is_exact_over_any_number_of_workers(run_group: RunGroup):
    check_pooled(run_group)


def without_counts(self: ScoreTable, group: Group) -> None:
    group.sum_(self._rows.view(torch.int64))


def failed_ones_too(
    self: ScoreTable, episode: int, step: int, p: Prediction, target: Examples
) -> bool:
    for name, count in self._objective.counts(p, target).items():
        self._counts[name][step] += count
    return RIGHT_WRITE(self, episode, step, p, target)


RIGHT_WRITE = ScoreTable.write


@pytest.mark.parametrize(
    ("method", "wrong"), [("sum", without_counts), ("write", failed_ones_too)], ids=["sum", "write"]
)
def test_wrong_counts_are_noticed(
    method: str,
    wrong: Any,
    run_group: RunGroup,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(ScoreTable, method, wrong)
    with pytest.raises(AssertionError):
        check_pooled(run_group)


def test_means_are_over_what_has_not_failed():
    found = judged(Solo())
    assert found.failed.sum() == 1
    kept = [e for e in range(EPISODES) if e != 3]
    for metric in (NLL, MSE):
        wanted = [float(Density().score(spread(e, 1), targets())[metric.name]) for e in kept]
        assert found.at(1, metric)["mean"] == pytest.approx(math.fsum(wanted) / 6, rel=CLOSED_FORM)
    assert found.metric is NLL
    assert found.further == {
        "mse": found.at(STEPS, MSE)["mean"],
        "coverage_95": found.pooled[STEPS]["coverage_95"],
    }
    assert abs(found.at(1, MSE)["mean"] - found.at(1)["mean"]) > OTHER
