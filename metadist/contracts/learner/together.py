"""What becomes of a learner in training: on several workers, and over several steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from metadist.compute.collectives import Group
from metadist.compute.order_free_sum import Layout, StepSum, reduce_step
from metadist.compute.strategies import ChunkResult
from metadist.contracts.finding import Finding, found
from metadist.contracts.purity import equal
from metadist.contracts.settings import TASKS, Setting, make
from metadist.contracts.thread_group import run_group

#: Uneven on purpose: chunks of 2, 2 and 1 tasks.
CHUNK = 2


def step(setting: Setting, layout: Layout, size: int) -> StepSum:
    """A step's sums of so many workers, each of which builds a learner of its own."""
    chunks: dict[int, tuple[int, list[ChunkResult]]] = {}
    # The last comes first: what one task leaves behind for the next would show.
    for rank in reversed(range(size)):
        own = make(setting.name, setting.where, "float32")
        first, last = layout.share(rank, size)
        chunks[rank] = first, [own.chunk(*layout.bounds(c)) for c in range(first, last)]

    def meet(worker: Group) -> StepSum:
        first, results = chunks[worker.rank]
        return reduce_step(results, first, layout, worker, torch.device("cpu"))

    return run_group(size, meet)[0]


def workers(setting: Setting) -> Iterator[Finding]:
    """One worker and three give the same bits through the order-free sum."""
    if not setting.trains:
        return
    learner = setting.learner
    layout = Layout(
        {n: tuple(p.shape) for n, p in setting.params.items()},
        {n: tuple(s) for n, s in learner.statistics(setting.ctx).items()},
        learner.metric_names,
        TASKS,
        CHUNK,
    )
    one, three = (step(setting, layout, size) for size in (1, 3))
    odd = [n for n, g in one.gradients.items() if not equal(g, three.gradients[n])]
    odd += [n for n, m in one.metrics.items() if not equal(m, three.metrics[n])]
    odd += [n for n, s in one.statistics.items() if not equal(s, three.statistics[n])]
    if odd:
        yield found(
            "the same bits for 1 worker and 3",
            f"others of {', '.join(odd[:4])}",
            "let a task's part depend on the task alone: not on tasks before it, nor on the clock",
        )


def learns(setting: Setting) -> Iterator[Finding]:
    """The loss falls in 20 steps of Adam on easy tasks."""
    if not setting.trains:
        return
    leaves = {n: p.clone().requires_grad_() for n, p in setting.params.items()}
    optimizer = torch.optim.Adam([*leaves.values()], lr=0.02, foreach=False)
    losses, now = [], setting
    for step in range(21):
        now = replace(now, params={n: p.detach().clone() for n, p in leaves.items()})
        result = now.chunk(0, TASKS)
        losses.append(float(result.metrics["loss"].mean()))
        means = {n: s / TASKS for n, s in result.statistics.items()}
        state = now.learner.update_state(now.ctx.state, means, now.params, now.ctx)
        now = replace(now, ctx=replace(now.ctx, state=state, step=step))
        for name, leaf in leaves.items():
            leaf.grad = result.gradients[name] / TASKS
        optimizer.step()
    if not min(losses[-5:]) < losses[0]:
        yield found(
            "a loss that falls in 20 steps of Adam (rate 0.02) on easy tasks",
            f"{losses[0]:.4g} before and {losses[-1]:.4g} after",
            "look at the sign of the gradient and at what is detached; some learners need longer",
            "warning",
        )


CHECKS = (workers, learns)
