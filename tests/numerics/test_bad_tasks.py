"""A task whose numbers are not finite is left out of its chunk; the others of the chunk are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from tiers import one_in

from metadist.compute.strategies import ChunkResult, Loop, Vmap
from metadist.context import Context
from metadist.inner.inner_loop import InnerLoop
from metadist.learner import Learner, Loss
from metadist.tasks import Params, Task, TaskBatch
from tests.contract.cases import Case
from tests.contract.setting import Setting, chosen, make, with_columns

TASKS = 3
SMALL = (("units", 8), ("memory_rows", 16))
CASES = [
    Case("maml", "mlp-relu", "none", 2),
    Case("maml", "conv4-stride", "running", 1),
    # The gradient of a summed loss.
    Case("mann", "mlp-relu", "none", 1, SMALL),
]
BAD = [[0], [1], [0, 2], [0, 1, 2]]
ids = "{}".format


def chunk(setting: Setting, mode: str, tasks: TaskBatch, rows: Sequence[int]) -> ChunkResult:
    noise = [setting.noise[row] for row in rows]
    given = (setting.algorithm, setting.params, tasks, noise, setting.ctx)
    return Loop().chunk(*given) if mode == "loop" else Vmap(TASKS).chunk(*given)


@pytest.mark.parametrize("value", one_in(2, [math.nan, math.inf]))
@pytest.mark.parametrize("bad", BAD, ids=ids)
@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_the_others_count(case: Case, mode: str, bad: list[int], value: float):
    setting = make(case)
    tasks = setting.tasks.slice(0, TASKS)
    spoilt = tasks.tensors["query_x"].clone()
    spoilt[bad, 0] = value
    good = [row for row in range(TASKS) if row not in bad]
    got = chunk(setting, mode, with_columns(tasks, query_x=spoilt), range(TASKS))
    assert got.finite.tolist() == [row in good for row in range(TASKS)]
    assert got.metrics["loss"].isfinite().tolist() == got.finite.tolist()
    for sums in (got.gradients, got.statistics):
        assert all(bool(s.isfinite().all()) for s in sums.values())
    if not good:
        assert not any(bool(g.any()) for g in got.gradients.values())
        return
    wanted = chunk(setting, mode, chosen(tasks, good), good)
    for name, g in wanted.gradients.items():
        torch.testing.assert_close(got.gradients[name], g, rtol=1e-12, atol=1e-12)
    for name, s in wanted.statistics.items():
        torch.testing.assert_close(got.statistics[name], s, rtol=1e-12, atol=1e-12)


def test_sums_that_overflow_leave_the_chunk_out(monkeypatch: pytest.MonkeyPatch):
    """Each of the gradients is finite, their sum is not."""

    def huge(self: Learner, params: Params, task: Task, ctx: Context) -> tuple[Params, Loss]:
        loss = self.loss(params, task, ctx)
        return {name: torch.full_like(p, 1.5e308) for name, p in params.items()}, loss

    monkeypatch.setattr(InnerLoop, "gradient", huge)
    setting = make(CASES[0])
    got = chunk(setting, "loop", setting.tasks.slice(0, TASKS), range(TASKS))
    assert not bool(got.finite.any())
    assert not any(bool(g.any()) for g in got.gradients.values())
    one = chunk(setting, "loop", setting.tasks.slice(0, 1), [0])
    assert bool(one.finite.all())
