"""Which checkpoint is evaluated, and which worker computes which episodes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from metadist.compute.collectives import Group, Solo
from metadist.compute.setup import Setup
from metadist.evaluation import evaluator
from metadist.evaluation.evaluator import evaluate
from metadist.evaluation.protocols import EvalProtocol
from metadist.evaluation.run_evaluator import RunEvaluator
from metadist.objectives import ACCURACY, MSE
from metadist.objectives.density import Density
from metadist.runs.checkpoints import Best, TrainState
from metadist.runs.log import Sink
from tests.numerics.conftest import RunGroup


@pytest.mark.parametrize(
    ("metric", "best", "last", "chosen"),
    [
        (ACCURACY, 0.8, 0.7, 4),
        (ACCURACY, 0.8, 0.9, 5),
        (ACCURACY, 0.8, 0.8, 4),
        (MSE, 0.8, 0.7, 5),
        (MSE, 0.8, float("nan"), 4),
    ],
)
def test_the_best_validated_checkpoint_is_the_one_that_is_evaluated(
    metric: Any, best: float, last: float, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = SimpleNamespace(eval=SimpleNamespace(every=2))
    setup = SimpleNamespace(recipe=recipe, objective=SimpleNamespace(metric=metric))
    judge = RunEvaluator("run", cast(Setup, setup), Solo(), torch.device("cpu"))
    monkeypatch.setattr(RunEvaluator, "validate", lambda self, state, log: last)
    state = TrainState(5, {}, {}, {}, Best(4, best, {}, {}))
    assert judge.best(state, Sink()).step == chosen
    # Where the last step was validated in its turn, that has decided already.
    assert judge.best(replace(state, step=6), Sink()).step == 4
    assert judge.best(replace(state, best=None), Sink()).step == 5


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_worker_evaluates_whole_chunks(
    size: int, run_group: RunGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = EvalProtocol("test-5q", "test", 1, 5, 7, 0, 1, 1)
    learner = SimpleNamespace(objective=Density(), needs=frozenset())
    recipe = SimpleNamespace(eval=SimpleNamespace(chunk=2), inner=SimpleNamespace(steps=1))
    source = SimpleNamespace(identity=SimpleNamespace(digest="d"))
    shares: list[list[int]] = []

    def nothing(trained: Any, source: Any, ids: range, steps: int) -> list[Any]:
        shares.append(list(ids))
        return [(SimpleNamespace(query=None), []) for _ in ids]

    monkeypatch.setattr(evaluator, "predictions", nothing)

    def work(group: Group) -> None:
        trained = SimpleNamespace(learner=learner, recipe=recipe)
        evaluate(cast(Any, trained), cast(Any, source), how, group)

    run_group(size, work)
    assert sorted(episode for share in shares for episode in share) == list(range(7))
    assert all(not share or share[0] % 2 == 0 for share in shares)
