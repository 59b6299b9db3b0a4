"""What a learner sees of a task and of its surroundings, and what it must not depend on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from metadist.contracts.differences import EXACT, distance
from metadist.contracts.finding import Finding, found
from metadist.contracts.purity import impure, same, snapshot
from metadist.contracts.settings import QUERIES, WAYS, Setting
from metadist.errors import UndeclaredNeed
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import InnerStep, meta_parameters
from metadist.tasks import Prediction, TaskBatch


def pure(setting: Setting) -> Iterator[Finding]:
    """Gradient and prediction: the same bits twice, nothing drawn, kept or changed."""
    learner, batch, tested = setting.learner, setting.tasks, setting.tested
    given = (setting.params, batch.tensors, setting.ctx, tested.ctx, setting.noise)

    def training() -> object:
        if not setting.trains:
            return setting.learner.loss(setting.params, batch.task(0), setting.task_ctx(0)).value
        return learner.gradient(setting.params, batch.task(0), setting.task_ctx(0))

    yield from impure("a task's gradient", training, given, learner)
    yield from impure("adapt and predict", tested.predictions, given, learner)


def needs(setting: Setting) -> Iterator[Finding]:
    """``adapt`` and ``predict`` see what is declared: the engine's view raises otherwise."""
    yield from ()
    try:
        for now in (setting, setting.tested):
            now.predictions()
        _train(setting)
    except UndeclaredNeed:
        raise
    except Exception:  # told by ``runs``
        pass


def runs(setting: Setting) -> Iterator[Finding]:
    """It adapts, predicts and trains once."""
    for now in (setting, setting.tested):
        for finding in itertools.chain(_updates(now), _shapes(now)):
            yield finding
            return
    _train(setting)


def _train(setting: Setting) -> None:
    task, ctx = setting.tasks.task(0), setting.task_ctx(0)
    with torch.no_grad():
        setting.learner.loss(setting.params, task, ctx)
    if setting.trains:
        setting.learner.gradient(setting.params, task, ctx)


def _updates(setting: Setting) -> Iterator[Finding]:
    """An inner optimizer returns an update of each adapted parameter: its shape, its type."""
    learner, params, ctx = setting.learner, setting.params, setting.task_ctx(0)
    if not isinstance(learner, InnerLoop) or type(learner).steps is not InnerLoop.steps:
        return
    task = setting.tasks.task(0).view(learner.needs)
    adapted, _ = learner.initial(params, task, ctx)
    examples = learner.examples(task.support, ctx)[:1]
    for seen in map(task.with_support, examples):
        frozen = {name: p for name, p in params.items() if name not in adapted}
        meta = meta_parameters(params)
        state = learner.optimizer.start(meta, adapted, ctx)
        gradients, loss, _ = learner.inner_gradient(adapted, frozen, seen, 0, ctx)
        step = InnerStep(0, meta, loss, ctx)
        got: Any = learner.optimizer.update(gradients, state, adapted, step)
        wanted = "(updates, state) of update(), an update for each adapted parameter"
        if not isinstance(got, tuple) or len(got) != 2 or not isinstance(got[0], Mapping):
            yield found(wanted, type(got).__name__, "return a dict of updates, and the state")
            return
        for name in dict.fromkeys((*adapted, *got[0])):
            kinds = [_kind(of.get(name)) for of in (adapted, got[0])]
            if kinds[0] != kinds[1]:
                yield found(
                    f"{wanted}, of its shape and type: {kinds[0]} for {name}",
                    kinds[1],
                    "let update() return (updates, state) with the keys, shapes and types of "
                    "adapted",
                )
                return


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{list(value.shape)} in {str(value.dtype).removeprefix('torch.')}"


def _shapes(setting: Setting) -> Iterator[Finding]:
    shape, queries = setting.where.shape, WAYS * QUERIES
    ways = f" of {shape.ways} ways" if shape.ways else ""
    for prediction in (p for after in setting.predictions() for p in after):
        for name, tensor in prediction.tensors().items():
            got = list(tensor.shape[1:] if name == "samples" else tensor.shape)
            if got != [queries, shape.outputs]:
                before = "M, " if name == "samples" else ""
                yield found(
                    f"Prediction.{name} [{before}{queries}, {shape.outputs}] for {queries} "
                    f"queries{ways}",
                    f"{list(tensor.shape)}, which predict() returned",
                    "return a row for each query, and an output for each way or value",
                )
                return


def query_labels(setting: Setting) -> Iterator[Finding]:
    """Other labels of the queries change no bit of a prediction."""
    now = setting.tested
    batch = now.tasks
    y = batch.tensors["query_y"]
    other = TaskBatch(batch.ids, {**batch.tensors, "query_y": y.roll(1, 1)})
    before = snapshot([[p.tensors() for p in one] for one in now.predictions()])
    for index in range(len(other)):
        # It may have met them in training.
        with torch.no_grad():
            now.learner.loss(now.params, other.task(index), now.task_ctx(index))
    after = snapshot([[p.tensors() for p in one] for one in now.predictions(other)])
    if not same(before, after):
        yield found(
            "the same predictions whatever the labels of the queries are",
            "others when the labels are exchanged",
            "predict from fitted and query.x, and keep nothing between calls",
        )


def queries(setting: Setting) -> Iterator[Finding]:
    """Each query is predicted by itself, unless the queries are known to depend on each other."""
    if setting.where.norm == "transductive" or "query_x" in setting.learner.needs:
        return
    now = setting.tested
    batch = now.tasks
    count = batch.tensors["query_x"].shape[1]
    backwards = torch.arange(count - 1, -1, -1)
    whole = [p[-1] for p in now.predictions()]
    for rows, what in ((backwards, "in another order"), (backwards[:2], "with fewer beside it")):
        parts = {
            name: column[:, rows] if name.startswith("query_") else column
            for name, column in batch.tensors.items()
        }
        got = [p[-1] for p in now.predictions(TaskBatch(batch.ids, parts))]
        apart = max(distance(_rows(g), _rows(w, rows)) for g, w in zip(got, whole, strict=True))
        if not apart <= EXACT:
            yield found(
                "the same prediction for a query whatever others are beside it",
                f"another one {what}",
                "take no statistics over queries (ctx.norm says how to normalise), or declare "
                "'query_x' in needs",
            )
            return


def _rows(prediction: Prediction, rows: Tensor | None = None) -> dict[str, Tensor]:
    """Mean and scale of some queries."""
    tensors = {n: t for n, t in prediction.tensors().items() if n != "samples"}
    return tensors if rows is None else {n: t[rows] for n, t in tensors.items()}


def known_needs(setting: Setting) -> Iterator[Finding]:
    """What is declared is something that tasks can have."""
    usual = {*setting.all, "unlabeled", "query_x"} - {"query_y", "support_x", "support_y"}
    for name in sorted(setting.learner.needs):
        if name == "query_y" or name.startswith("support_"):
            yield found(
                "needs of what may be known beside the support set",
                repr(name),
                "leave it out: support is always seen, query.y never outside of loss",
            )
        elif name not in usual and name not in ("class_ids", "latent"):
            yield found(
                "a column that the synthetic tasks have, for a check to be possible",
                f"{name!r}, which a source of episodes must bring",
                "nothing, if yours does",
                "note",
            )


def support_loss(setting: Setting) -> Iterator[Finding]:
    """Steps of adaptation lower the loss of what is learned from."""
    now, losses = setting.tested, []
    with torch.no_grad():
        for index in range(len(now.noise)):
            task, ctx = now.tasks.task(index), now.task_ctx(index)
            fitted = now.learner.adapt(now.params, task.view(now.learner.needs), ctx)
            inputs = task.support.without("y")
            predicted = (now.learner.predict(fitted[i], inputs, ctx) for i in (0, -1))
            losses.append([float(now.learner.objective.loss(p, task.support)) for p in predicted])
    before, after = (sum(column) / len(losses) for column in zip(*losses, strict=True))
    if not after <= before + 1e-3 * abs(before):
        yield found(
            f"a lower loss of the support examples after {now.ctx.inner_steps} steps than before",
            f"{before:.4g} before and {after:.4g} after",
            "look at the sign of the update: it is added, so descent is -lr * gradient",
            "warning",
        )


def chance(setting: Setting) -> Iterator[Finding]:
    """Fresh parameters tell classes apart no worse than a coin."""
    if not setting.where.shape.ways:
        return
    now = setting.tested
    truth = now.tasks.tensors["query_y"]
    predicted = torch.stack([after[-1].mean.argmax(-1) for after in now.predictions()])
    right, share = float((predicted == truth).double().mean()), 1 / WAYS
    if right < share - 3 * (share * (1 - share) / truth.numel()) ** 0.5:
        yield found(
            f"about {100 * share:.0f} % of queries right, or more, before training",
            f"{100 * right:.0f} % of {truth.numel()}",
            "look at the sign: the largest output is the label (minus a distance, not a distance)",
            "note",
        )


CHECKS = (support_loss, chance, query_labels, queries)
