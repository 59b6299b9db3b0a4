"""What a learner declares of itself, held against what it does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from metadist.contracts.finding import Finding, found
from metadist.contracts.purity import fresh, impure, same, snapshot
from metadist.contracts.settings import WAYS, Setting, make, noise_of
from metadist.inner.normalisation import Normalised
from metadist.keys import Key
from metadist.learner import Learner
from metadist.runs.readers.diagnostics import MOST_NUMBERS

#: Ways of tasks that it was not trained for.
MORE = WAYS + 1
#: Options of the small networks at a usual size.
USUAL = {"hidden": 128, "filters": 64}


def fresh_parameters(setting: Setting) -> Iterator[Finding]:
    """Float32 on the CPU, without a graph, from the key alone."""
    yield from fresh(setting.learner.init, setting.learner)


def predictions(setting: Setting) -> Iterator[Finding]:
    """They are finite, and scales above 0."""
    predicted = [*setting.predictions(), *setting.tested.predictions()]
    for prediction in itertools.chain(*predicted):
        for name, got in prediction.tensors().items():
            if not bool(got.isfinite().all()):
                yield found(
                    f"a finite Prediction.{name}",
                    "NaN or infinity",
                    "look for divisions by 0, logarithms of 0 and roots of 0",
                )
        if prediction.scale is not None and not bool((prediction.scale > 0).all()):
            yield found(
                "a Prediction.scale above 0",
                f"{float(prediction.scale.min()):g}",
                "use torch.nn.functional.softplus(...) + a floor",
            )


def types(setting: Setting) -> Iterator[Finding]:
    """Float32 parameters give float32, float64 ones float64: nothing is converted inside."""
    for kind in ("float32", "float64"):
        now = make(setting.name, setting.where, kind)
        got = {f"Prediction.{n}": t for n, t in now.predictions()[0][-1].tensors().items()}
        if now.trains:
            gradients, _ = now.learner.gradient(now.params, now.tasks.task(0), now.task_ctx(0))
            got |= {f"the gradient of {name}": g for name, g in gradients.items()}
        wanted = getattr(torch, kind)
        if odd := [f"{n} in {t.dtype}" for n, t in got.items() if t.dtype != wanted]:
            yield found(
                f"{kind} where parameters and inputs are {kind}",
                ", ".join(odd[:3]),
                "make new tensors like those that are given: x.new_zeros(...), noise.to(x.dtype)",
            )


def metrics(setting: Setting) -> Iterator[Finding]:
    """``loss`` returns those of ``metric_names``, scalars without a graph."""
    learner = setting.learner
    if learner.metric_names[:1] != ("loss",):
        yield found(
            "'loss' first in metric_names",
            list(learner.metric_names),
            "return ('loss', *others): training reports it",
        )
    leaves = {n: p.detach().requires_grad_() for n, p in setting.params.items()}
    for now in (setting, setting.tested):
        loss = learner.loss(leaves, now.tasks.task(0), now.task_ctx(0))
        if loss.value.shape != ():
            yield found("a scalar Loss.value", f"shape {list(loss.value.shape)}", "take its mean")
        if set(loss.metrics) != set(learner.metric_names):
            yield found(
                f"the metrics that metric_names declares, {list(learner.metric_names)}",
                list(loss.metrics),
                "declare in metric_names what loss returns; the sum of a step is laid out by it",
            )
        for name, value in loss.metrics.items():
            if value.shape != () or value.requires_grad:
                yield found(
                    f"metric {name!r} as a scalar without a graph",
                    f"shape {list(value.shape)}{', with one' if value.requires_grad else ''}",
                    "return value.detach(), or what objective.loss_and_metrics returns",
                )


def statistics(setting: Setting) -> Iterator[Finding]:
    """Those that are declared, float64, and a state that keeps its form when it is updated."""
    learner, ctx = setting.learner, setting.ctx
    declared = {n: tuple(s) for n, s in learner.statistics(ctx).items()}
    loss = learner.loss(setting.params, setting.tasks.task(0), setting.task_ctx(0))
    if setting.trains:
        _, loss = learner.gradient(setting.params, setting.tasks.task(0), setting.task_ctx(0))
    got = {n: tuple(s.shape) for n, s in loss.statistics.items()}
    if setting.trains and got != declared:
        yield found(
            f"the statistics that are declared, {declared}",
            got,
            "Normalised: define recorded(fitted), the statistics of the passes over the support set"
            if _records_nothing(learner)
            else "let statistics(ctx) give names and shapes of what loss returns in training",
        )
        return
    if odd := [n for n, s in loss.statistics.items() if s.dtype != torch.float64]:
        yield found("statistics in float64", f"others: {', '.join(odd)}", "return s.double()")
    state = learner.initial_state(ctx)
    new = learner.update_state(state, loss.statistics, setting.params, ctx)
    forms = [{n: (tuple(t.shape), t.dtype) for n, t in s.items()} for s in (state, new)]
    if setting.trains and forms[0] != forms[1]:
        yield found(
            f"a state of the same names, shapes and types after update_state: {forms[0]}",
            forms[1],
            "return all of the state; a checkpoint is laid out by initial_state",
        )


def _records_nothing(learner: Learner) -> bool:
    return isinstance(learner, Normalised) and all(
        getattr(type(learner), name) is getattr(Normalised, name) for name in ("loss", "recorded")
    )


def step_scalars(setting: Setting) -> Iterator[Finding]:
    """Those that are declared, scalars."""
    names = setting.learner.step_scalar_names
    with torch.no_grad():
        got = setting.learner.step_scalars(
            setting.params, setting.tasks.task(0), setting.task_ctx(0)
        )
    if set(got) != set(names) or any(v.shape != () for v in got.values()):
        yield found(
            f"the scalars that step_scalar_names declares, {list(names)}",
            {n: list(v.shape) for n, v in got.items()},
            "declare what step_scalars returns, and return scalars",
        )


def noise(setting: Setting) -> Iterator[Finding]:
    """A function of the key: the same twice, the same names for every task, other numbers."""
    learner, ctx = setting.learner, setting.ctx
    yield from impure("noise", lambda: learner.noise(Key.of("a"), ctx), (), learner)
    one, other = noise_of(learner, ctx, 2)
    if {n: t.shape for n, t in one.items()} != {n: t.shape for n, t in other.items()}:
        yield found(
            "noise of the same names and shapes for every task",
            f"{sorted(one)} and {sorted(other)}",
            "draw as many numbers for each task; how many must not depend on the key",
        )
    elif one and same(snapshot(one), snapshot(other)):
        yield found("other noise for another key", "the same", "draw it from the key")


def activations(setting: Setting) -> Iterator[Finding]:
    """A row for each query."""
    ctx, task = setting.task_ctx(0), setting.tasks.task(0)
    with torch.no_grad():
        seen = task.view(setting.learner.needs)
        fitted = setting.learner.adapt(setting.params, seen, ctx)[-1]
        found_here = setting.learner.activations(fitted, task.query.without("y"), ctx)
    queries = len(task.query)
    if odd := [f"{n} {list(t.shape)}" for n, t in found_here.items() if len(t) != queries]:
        yield found(f"activations [{queries}, ...]", ", ".join(odd), "return a row for each query")


def explanation(setting: Setting) -> Iterator[Finding]:
    """Features of one space, a row for each example; attention and adjacency that are shares."""
    now = setting.tested
    task, ctx, learner = now.tasks.task(0), now.task_ctx(0), setting.learner
    with torch.no_grad():
        fitted = learner.adapt(setting.params, task.view(learner.needs), ctx)[-1]
        told = learner.explanation(fitted, task.visible_query(learner.needs), ctx)
    if told is None:
        return
    examples, queries, vertices = len(told.support), len(task.query), len(told.support) + 1
    size = told.support.shape[1:]
    forms = {"support": (told.support, (examples, *size)), "query": (told.query, (queries, *size))}
    if told.prototypes is not None:
        forms["prototypes"] = (told.prototypes, (setting.where.shape.ways, *size))
    for name, of in told.attention.items():
        forms[f"attention {name!r}"] = (of, (queries, examples))
    for name, of in told.adjacency.items():
        forms[f"adjacency {name!r}"] = (of, (queries, vertices, vertices))
    for name, (tensor, shape) in forms.items():
        if tuple(tensor.shape) != shape:
            yield found(
                f"{name} {list(shape)}", list(tensor.shape), "see metadist.learner.Explanation"
            )
    if examples < len(task.support):
        wanted = f"features of all {len(task.support)} support examples"
        yield found(wanted, f"of {examples}", "return a row for each, in their order")
    for name, of in {**told.attention, **told.adjacency}.items():
        if bool((of < 0).any()) or bool((of.sum(-1) > 1 + 1e-6).any()):
            least, most = float(of.min()), float(of.sum(-1).max())
            yield found(
                f"shares in {name!r}: nothing below 0, rows that sum to at most 1",
                f"numbers from {least:.3g} on, rows that sum to up to {most:.3g}",
                "return the weights after the softmax",
            )


def pair_scores(setting: Setting) -> Iterator[Finding]:
    """A finite score for each pair of a query and a support example, if for any."""
    now = setting.tested
    task, ctx, learner = now.tasks.task(0), now.task_ctx(0), setting.learner
    with torch.no_grad():
        fitted = learner.adapt(setting.params, task.view(learner.needs), ctx)[-1]
        scores = learner.pair_scores(fitted, task.visible_query(learner.needs), ctx)
    if scores is None:
        return
    wanted, got = [len(task.query), len(task.support)], list(scores.shape)
    if got != wanted:
        yield found(
            f"pair_scores {wanted}, a row for each query", got, "give every pair a score of its own"
        )
    if not bool(scores.isfinite().all()):
        mend = "look for divisions by 0, logarithms of 0 and roots of 0"
        yield found("finite pair_scores", "NaN or infinity", mend)


def learned_quantities(setting: Setting) -> Iterator[Finding]:
    """Finite floats by quantity and name."""
    for quantity, of in setting.learner.learned_quantities(setting.params).items():
        for name, numbers in of.items():
            if not numbers or not all(type(n) is float and math.isfinite(n) for n in numbers):
                yield found(
                    f"finite floats of {quantity!r}, {name!r}",
                    numbers,
                    "return tensor.flatten().tolist()",
                )
    # Of so many weights as networks have outside of this check.
    usual = {name: size for name, size in USUAL.items() if name in setting.where.options}
    where = replace(setting.where, options={**setting.where.options, **usual})
    large = make(setting.name, where, "float32")
    for quantity, of in large.learner.learned_quantities(large.params).items():
        if many := [n for n, numbers in of.items() if len(numbers) > MOST_NUMBERS]:
            yield found(
                f"at most {MOST_NUMBERS} numbers of one name",
                f"{len(of[many[0]])} of {quantity!r}, {many[0]!r} in a network of usual size: "
                "it is left out of report and MLflow",
                "return a few that say it: <quantity>_min, _mean and _max",
                "warning",
            )


def ways(setting: Setting) -> Iterator[Finding]:
    """Which parameters depend on the number of classes; that it works with others if none does."""
    shape, params = setting.where.shape, setting.params
    if not shape.ways:
        return
    other = make(
        setting.name, replace(setting.where, shape=replace(shape, outputs=MORE, ways=MORE))
    )
    fits = {name: p.shape for name, p in other.params.items()}
    if sized := [name for name, p in params.items() if fits.get(name) != p.shape]:
        yield found(
            "parameters that do not depend on the number of ways, to be evaluated with another",
            f"{', '.join(sized)}, which do: it cannot be evaluated with another number of ways",
            "nothing, if that is meant; parts.encoder is the network without its head",
            "note",
        )
        return
    got = replace(other.tested, params=params).predictions()[0][-1].mean
    if got.shape[-1] != MORE:
        yield found(
            f"predictions of {MORE} ways after training with {WAYS}",
            f"of {got.shape[-1]}",
            "take the number of ways from parts.shape",
        )


CHECKS = (
    fresh_parameters,
    predictions,
    types,
    step_scalars,
    noise,
    activations,
    explanation,
    pair_scores,
    learned_quantities,
    ways,
)
