"""What a learner sees of a task and of its surroundings, and what it must not depend on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metadist.contracts.differences import distance
from metadist.contracts.finding import Finding, found
from metadist.contracts.purity import impure, same, snapshot
from metadist.contracts.settings import Setting
from metadist.tasks import Prediction, TaskBatch

EXACT = 1e-9


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
    for now in (setting, setting.tested):
        now.predictions()
    task = setting.tasks.task(0)
    with torch.no_grad():
        setting.learner.loss(setting.params, task, setting.task_ctx(0))
    yield from ()


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


FIRST = (known_needs, needs)
CHECKS = (query_labels, queries)
