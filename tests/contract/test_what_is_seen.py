"""A learner sees of a task what it declares that it needs, and nothing else.

Each curious learner here is MAML that looks at something more, which moves its parameters, so that
what it has seen shows in its predictions and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeBatch
from metadist.compute.collectives import Solo
from metadist.compute.learners import context
from metadist.compute.strategies import GradientStrategy, Loop, Vmap
from metadist.context import Context
from metadist.errors import UndeclaredNeed
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.keys import Key
from metadist.learner import Learner
from metadist.tasks import (
    Examples,
    Params,
    Phase,
    Prediction,
    Task,
    TaskBatch,
    Unlabeled,
    to_tasks,
)
from metadist.training.trainer import Trainer
from tests.contract.cases import TASKS, WAYS, Case, built
from tests.contract.setting import CPU, synthetic_episodes, with_columns

POINTS, ASKED = 7, 3
CASE = Case("maml", "mlp-relu", "none", 2, engine={"chunk": 2}, outer={"batch": TASKS})
Mode = Literal["loop", "vmap"]
each_mode = pytest.mark.parametrize("mode", ["loop", "vmap"])


def episodes() -> EpisodeBatch:
    """Tasks of which everything is known that can be."""
    key, shape = Key.of("seen"), CASE.network.shape
    plain = synthetic_episodes(shape, key, TASKS)
    x = key.fold("unlabeled").normal((TASKS, POINTS, *shape.inputs), torch.float64)
    y = (key.fold("hidden").uniform((TASKS, POINTS), torch.float64) * WAYS).long()
    before = key.fold("before").normal((TASKS, plain.query_x.shape[1]), torch.float64)
    more = {
        "unlabeled_x": x.numpy(),
        "unlabeled_y": y.numpy(),
        "query_before": before.numpy(),
        "latent": key.fold("latent").normal((TASKS, 2), torch.float64).numpy(),
    }
    arrays = dict(plain.arrays())
    return EpisodeBatch(arrays.pop("ids"), arrays | more)


def tasks_of(learner: Learner, phase: Phase) -> TaskBatch:
    """As the engine hands them on."""
    return to_tasks(episodes(), torch.float64, CPU, learner.needs, phase, turned=False)


@dataclass(frozen=True)
class Curious(InnerLoop):
    """MAML that looks at a task before it adapts, or at queries before it predicts.

    Attributes:
        wants: what it declares.
        at_task: what it looks at in ``adapt``; at_query: in ``predict``.
    """

    wants: frozenset[str] = frozenset()
    at_task: Callable[[Task], Tensor] | None = field(default=None, kw_only=True)
    at_query: Callable[[Examples], Tensor] | None = field(default=None, kw_only=True)

    @property
    def needs(self) -> frozenset[str]:
        return self.wants

    def initial(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Tensor | None]:
        start, penalty = super().initial(params, task, ctx)
        if self.at_task is None:
            return start, penalty
        seen = self.at_task(task).double().mean()
        return {name: p * (1 + 0.1 * seen.sin()) for name, p in start.items()}, penalty

    def predict(self, fitted: AdaptedModel, query: Examples, ctx: Context) -> Prediction:
        plain = super().predict(fitted, query, ctx)
        if self.at_query is None:
            return plain
        return Prediction(plain.mean * (1 + self.at_query(query).double().mean().sin()))


def curious(
    *wants: str,
    at_task: Callable[[Task], Tensor] | None = None,
    at_query: Callable[[Examples], Tensor] | None = None,
) -> Curious:
    plain = vars(built(CASE))
    return Curious(**plain, wants=frozenset(wants), at_task=at_task, at_query=at_query)


@dataclass(frozen=True)
class Look:
    """Something that a learner may look at.

    Attributes:
        need: what has to be declared; None: nothing helps.
        column: where it comes from.
    """

    name: str
    need: tuple[str, ...] | None
    column: str
    at_task: Callable[[Task], Tensor] | None = None
    at_query: Callable[[Examples], Tensor] | None = None
    phases: tuple[Phase, ...] = ("train", "val", "test")

    @property
    def told(self) -> str:
        """What the error names: a set that is not there at all, or one of its columns."""
        return "unlabeled" if self.need == ("unlabeled",) else self.column or "query_x"

    def learner(self, *wants: str) -> Curious:
        return curious(*wants, at_task=self.at_task, at_query=self.at_query)


LOOKS = [
    Look("query labels in adapt", None, "query_y", lambda task: task.query.y),
    Look("query labels in predict", None, "query_y", at_query=lambda query: query.y),
    Look("queries in adapt", ("query_x",), "query_x", lambda task: task.query.x),
    Look("how many queries", ("query_x",), "", lambda task: torch.ones(len(task.query))),
    Look("unlabeled points", ("unlabeled",), "unlabeled_x", lambda task: task.unlabeled.x),
    Look(
        "hidden labels, asked for",
        ("unlabeled", "unlabeled_y"),
        "unlabeled_y",
        lambda task: task.unlabeled.reveal(torch.arange(POINTS)),
    ),
    Look("hidden labels, taken", None, "unlabeled_y", lambda task: task.unlabeled.y),
    Look("latent", ("latent",), "latent", lambda task: task.info["latent"]),
    Look(
        "classes",
        ("class_ids",),
        "class_ids",
        lambda task: task.info["class_ids"],
        phases=("train",),
    ),
    Look(
        "previous labels",
        ("query_before",),
        "query_before",
        at_query=lambda query: query.extra["before"],
    ),
    Look(
        "previous labels in adapt",
        ("query_before",),
        "query_before",
        lambda task: task.query.extra["before"],
    ),
]
each_look = pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)


def strategy_of(mode: Mode) -> GradientStrategy:
    return Vmap(2) if mode == "vmap" else Loop()


def fresh(learner: Learner) -> Params:
    return {name: p.double() for name, p in learner.init(Key.of("seen")).items()}


def run(learner: Learner, mode: Mode, phase: Phase, tasks: TaskBatch | None = None) -> list[Tensor]:
    """All that comes out: gradients in training, predictions elsewhere."""
    tasks = tasks_of(learner, phase) if tasks is None else tasks
    ctx = replace(context(CASE.recipe, phase, 0), inner_steps=2)
    how = strategy_of(mode)
    found: list[Tensor] = []
    for start in range(0, len(tasks), 2):
        part = tasks.slice(start, start + 2)
        given = learner, fresh(learner), part, [learner.noise(Key.of(i), ctx) for i in part.ids]
        if phase == "train":
            found += how.chunk(*given, ctx).gradients.values()
        else:
            found += [one.mean for after in how.predict(*given, ctx) for one in after]
    return found


def same_bits(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- what is not declared -------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["train", "val", "test"])
@each_mode
@each_look
def test_what_is_not_declared_is_not_there(look: Look, mode: Mode, phase: Phase):
    with pytest.raises(UndeclaredNeed, match=look.told):
        run(look.learner(), mode, phase)


@each_mode
@each_look
def test_declaring_something_else_does_not_help(look: Look, mode: Mode):
    every = {need for other in LOOKS for need in other.need or ()} - set(look.need or ())
    with pytest.raises(UndeclaredNeed, match=look.told):
        run(look.learner(*every, "query_y", "support_y"), mode, "test")


@pytest.mark.parametrize("phase", ["train", "val", "test"])
@each_mode
@each_look
def test_what_is_declared_is_seen(look: Look, mode: Mode, phase: Phase):
    if look.need is None:
        return
    learner = look.learner(*look.need)
    if phase not in look.phases:
        with pytest.raises(UndeclaredNeed, match=look.told):
            run(learner, mode, phase)
        return
    found = run(learner, mode, phase)
    if look.column:
        tasks = tasks_of(learner, phase)
        other = with_columns(tasks, **{look.column: tasks.tensors[look.column] + 1})
        assert not same_bits(run(learner, mode, phase, other), found)


@each_look
def test_the_trainer_hands_on_what_is_declared(look: Look):
    def step(*wants: str) -> Params:
        worker = Trainer(CASE.recipe, look.learner(*wants), Solo(), CPU)
        worker.step(episodes(), list(range(TASKS)))
        return worker.params

    if look.need is not None:
        moved = step(*look.need)
        assert any(not torch.equal(p, moved[n]) for n, p in fresh(curious()).items())
    with pytest.raises(UndeclaredNeed, match=look.told):
        step()


def test_a_view_keeps_what_is_declared():
    every = frozenset(
        {"query_x", "unlabeled", "unlabeled_y", "query_before", "latent", "class_ids", "other"}
    )
    given = {n: torch.from_numpy(np.asarray(a)) for n, a in episodes().arrays().items()}
    learner = curious(*every)
    task = tasks_of(learner, "train").task(1)
    view = task.view(every)
    wanted = {
        "support_x": view.support.x,
        "support_y": view.support.y,
        "query_x": view.query.x,
        "query_before": view.query.extra["before"],
        "unlabeled_x": view.unlabeled.x,
        "unlabeled_y": view.unlabeled.reveal(torch.arange(POINTS)),
        "latent": view.info["latent"],
        "class_ids": 4 * view.info["class_ids"],
    }
    for name, tensor in wanted.items():
        assert torch.equal(tensor.double(), given[name][1].double()), name
    assert int(view.slot) == 1
    assert set(given) - set(wanted) == {"ids", "query_y"}
    # The task itself is as it was.
    assert torch.equal(task.query.y, given["query_y"][1])


def test_a_message_says_what_to_declare():
    with pytest.raises(UndeclaredNeed, match=r"query_x: .* stands in its `needs`"):
        run(curious(at_task=lambda task: task.query.x), "loop", "test")


# --- planted faults -------------------------------------------------------------------------------


def leaky_view(patch: pytest.MonkeyPatch) -> str:
    """The whole task."""
    patch.setattr(Task, "view", lambda self, needs: self)
    return "queries in adapt"


def leaky_query(patch: pytest.MonkeyPatch) -> str:
    """Queries with their labels."""
    patch.setattr(Examples, "without", lambda self, *columns: self)
    return "query labels in predict"


def leaky_columns(patch: pytest.MonkeyPatch) -> str:
    """All columns for everybody."""
    patch.setattr("metadist.tasks.wanted", lambda *_: True)
    return "latent"


@each_mode
@pytest.mark.parametrize("leak", [leaky_view, leaky_query, leaky_columns])
def test_a_leak_is_noticed(leak: Any, mode: Mode, monkeypatch: pytest.MonkeyPatch):
    name = leak(monkeypatch)
    (look,) = (one for one in LOOKS if one.name == name)
    phases: tuple[Phase, ...] = ("train", "test")
    for phase in phases:
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            test_what_is_not_declared_is_not_there(look, mode, phase)


# --- labels that may be asked for -----------------------------------------------------------------


@dataclass(frozen=True)
class Asking(InnerLoop):
    """MAML that asks for the labels of some unlabeled points and learns from them too."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"unlabeled", "unlabeled_y"})

    def initial(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Tensor | None]:
        rows = asked_for(task.unlabeled.x)
        labels = task.unlabeled.reveal(rows)
        more = Examples(task.unlabeled.x[rows], labels)
        own, _ = self.support_loss(params, more, self.normalisation.support(ctx))
        start, _ = super().initial(params, task, ctx)
        # Its labels move where it starts, and the loss.
        moved = labels.double().mean() / WAYS
        return {name: p * (1 + 0.1 * moved) for name, p in start.items()}, 0.1 * own


def asked_for(x: Tensor) -> Tensor:
    """The rows whose labels are asked for: those of the largest numbers."""
    return x.flatten(1).sum(1).argsort(descending=True)[:ASKED]


def permuted(tasks: TaskBatch, asked: bool) -> TaskBatch:
    """The tasks with other labels at the rows that are asked for, or at the others."""
    labels = tasks.tensors["unlabeled_y"].clone()
    for row, x in enumerate(tasks.tensors["unlabeled_x"]):
        chosen_rows = asked_for(x)
        rest = torch.tensor([i for i in range(POINTS) if i not in chosen_rows.tolist()])
        where = chosen_rows if asked else rest
        labels[row, where] = (labels[row, where] + 1) % WAYS
    assert not torch.equal(labels, tasks.tensors["unlabeled_y"])
    return with_columns(tasks, unlabeled_y=labels)


def asking() -> Asking:
    return Asking(**vars(built(CASE)))


def check_only_asked_labels_count(mode: Mode, phase: Phase) -> None:
    learner = asking()
    tasks = tasks_of(learner, phase)
    found = run(learner, mode, phase, tasks)
    assert same_bits(run(learner, mode, phase, permuted(tasks, asked=False)), found)
    assert not same_bits(run(learner, mode, phase, permuted(tasks, asked=True)), found)


@pytest.mark.parametrize("phase", ["train", "test"])
@each_mode
def test_labels_that_are_not_asked_for_change_no_bit(mode: Mode, phase: Phase):
    check_only_asked_labels_count(mode, phase)


def all_at_once(self: Unlabeled, rows: Tensor) -> Tensor:
    assert self._hidden is not None
    return (self._hidden[rows] + self._hidden.sum()) % WAYS


def the_next_one(self: Unlabeled, rows: Tensor) -> Tensor:
    assert self._hidden is not None
    return self._hidden.roll(1)[rows]


@pytest.mark.parametrize("phase", ["train", "test"])
@each_mode
@pytest.mark.parametrize("wrong", [all_at_once, the_next_one])
def test_a_label_that_was_not_asked_for_is_noticed(
    wrong: Any, mode: Mode, phase: Phase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Unlabeled, "reveal", wrong)
    with pytest.raises(AssertionError):
        check_only_asked_labels_count(mode, phase)


def test_some_of_the_unlabeled_examples_still_hide_their_labels():
    hidden = Unlabeled(torch.zeros(3, 2), torch.arange(3), name="unlabeled")
    with pytest.raises(UndeclaredNeed, match="unlabeled_y"):
        _ = hidden.y
    with pytest.raises(UndeclaredNeed, match="unlabeled_y"):
        _ = hidden[torch.tensor([0])].y
    assert hidden.reveal(torch.tensor([2, 0])).tolist() == [2, 0]
