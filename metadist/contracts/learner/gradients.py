"""The meta-gradient of a learner: what it says it is, however it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch

from metadist.contracts.differences import EXACT, OTHER, TOLERANCE, distance, slopes
from metadist.contracts.finding import Finding, found, not_together
from metadist.contracts.settings import SEED, TASKS, TOTAL_STEPS, Setting, make
from metadist.errors import UndeclaredNeed


def estimator(setting: Setting) -> Iterator[Finding]:
    """The gradient is the derivative of ``loss``, or clearly not, as the estimator says."""
    declared = setting.learner.estimator
    if not setting.trains:
        return
    if declared == "annealed":
        setting = make(setting.name, setting.where, step=TOTAL_STEPS - 1)
        declared = setting.learner.estimator
    gradients, value = setting.chunk(1, 2).gradients, partial(setting.value, index=1)
    got = slopes(value, setting.params, gradients, SEED, 3)
    if got.checked == 0:
        yield found(
            "a direction along which the loss has a slope, to tell the gradient by",
            "a kink or a jump along each: it cannot be told whether the estimator is true",
            "nothing, if the learner chooses or rounds; else look for what does",
            "note",
        )
    elif declared in ("exact", "annealed"):
        if got.worst > TOLERANCE:
            yield found(
                f"the derivative of loss, as the estimator {declared!r} says",
                f"{got.said:.6g} along a direction in which central differences are "
                f"{got.measured:.6g}",
                "take inner gradients by ctx.grad(..., second_order=True) and detach nothing, or "
                "declare another estimator ('first-order', 'pseudo')",
            )
    elif got.worst <= OTHER:
        yield found(
            f"another gradient than the derivative of loss, as the estimator {declared!r} says",
            "the derivative itself",
            "declare estimator 'exact' if it always is",
            "warning",
        )


def derivative_order(setting: Setting) -> Iterator[Finding]:
    """The highest derivative that is taken is the one that is declared."""
    if not setting.trains:
        return
    now = setting
    if setting.learner.estimator == "annealed":
        now = make(setting.name, setting.where, step=TOTAL_STEPS - 1)
    declared, taken = now.learner.derivative_order, _order_taken(now)
    if declared != taken:
        yield found(
            f"derivative_order {taken}, as is taken",
            declared,
            "declare it: 2 if the meta-gradient goes through inner gradients, else 1",
        )


def _order_taken(setting: Setting) -> int:
    graphs: list[bool] = []
    plain = torch.autograd.grad

    def counted(*args: Any, **more: Any) -> Any:
        graphs.append(more.get("create_graph", False))
        return plain(*args, **more)

    with mock.patch.object(torch.autograd, "grad", counted):
        setting.chunk(0, 1)
    return 2 if any(graphs) else min(len(graphs), 1)


def finite(setting: Setting) -> Iterator[Finding]:
    """Loss and gradients of each task are finite."""
    for index in range(TASKS if setting.trains else 0):
        task, ctx = setting.tasks.task(index), setting.task_ctx(index)
        gradients, loss = setting.learner.gradient(setting.params, task, ctx)
        odd = {} if bool(loss.value.isfinite().all()) else {"the loss": loss.value}
        odd |= {
            f"the gradient of {n}": g for n, g in gradients.items() if not bool(g.isfinite().all())
        }
        for what, numbers in odd.items():
            yield found(
                "a finite loss and finite gradients",
                f"{what} is {'NaN' if bool(numbers.isnan().any()) else 'infinite'}",
                "a root or a division of 0? Add what keeps it from 0 inside the root: "
                "(v + eps).sqrt(), not v.sqrt() + eps, which has no derivative at v = 0",
            )
            return


def gradient_form(setting: Setting) -> Iterator[Finding]:
    """A gradient for every parameter, of its shape, with the metrics of the loss."""
    learner, params = setting.learner, setting.params
    if not setting.trains:
        return
    gradients, loss = learner.gradient(params, setting.tasks.task(0), setting.task_ctx(0))
    shapes = {n: list(p.shape) for n, p in params.items()}
    if {n: list(g.shape) for n, g in gradients.items()} != shapes:
        odd = sorted(n for n in {*params, *gradients} if n not in params or n not in gradients)
        yield found(
            "a gradient for every parameter, of its shape",
            f"others: {', '.join(odd) or 'other shapes'}",
            "return zeros_like(p) for what has none",
        )
    if set(loss.metrics) != set(learner.metric_names):
        yield found(
            f"the metrics that metric_names declares, {list(learner.metric_names)}",
            list(loss.metrics),
            "declare in metric_names what gradient returns",
        )


def never_trained(setting: Setting) -> Iterator[Finding]:
    """Every parameter gets a gradient on some task."""
    if not setting.trains:
        return
    gradients = setting.looped.gradients
    if idle := [name for name, g in gradients.items() if not bool(g.any())]:
        yield found(
            "a gradient of every meta-parameter",
            f"0 on every task of {', '.join(idle)}: never trained",
            "use them in the loss, or keep them out of init",
            "warning",
        )


def vmap(setting: Setting) -> Iterator[Finding]:
    """``engine.mode = "vmap"`` computes what the loop does: gradient, statistics, predictions."""
    try:
        got = setting.chunk(0, TASKS, TASKS) if setting.trains else None
        together = setting.tested.predictions(size=TASKS)
    except UndeclaredNeed:
        raise
    except Exception as error:
        what = "a learner that engine.mode = 'vmap' can take several tasks of at once"
        yield not_together(what, error.__cause__ or error)
        return
    alone = setting.tested.predictions()
    apart = max(
        distance(b.tensors(), a.tensors())
        for one, other in zip(alone, together, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    if got is not None:
        apart = max(apart, distance(got.gradients, setting.looped.gradients))
    if not apart <= EXACT:
        yield found(
            "the same numbers of engine.mode = 'vmap' and 'loop'",
            f"ones that differ by {apart:.1g}, relative",
            "see that each task is computed from its own examples and noise alone",
        )


CHECKS = (gradient_form, estimator, derivative_order, never_trained, vmap)
