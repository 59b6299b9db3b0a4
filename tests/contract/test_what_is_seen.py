"""A learner sees of a task what it declares that it needs, and nothing else.

Each curious learner here is MAML that looks at something more, which moves its parameters, so that
what it has seen shows in its predictions and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from ended_runs import FUNCTIONS as CURVES
from fresh_learners import learner as fresh
from fresh_learners import sources
from torch import Tensor

from metadist.compute.collectives import Solo
from metadist.context import Context
from metadist.errors import UndeclaredNeed
from metadist.evaluation.diagnostics import feature_similarity
from metadist.evaluation.evaluator import evaluate, examples
from metadist.evaluation.protocols import EvalProtocol
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.tasks import (
    Examples,
    Params,
    Phase,
    Prediction,
    Task,
)
from metadist.training.trainer import Trainer
from tests.contract.cases import TASKS, built
from tests.contract.known_tasks import (
    CASE,
    POINTS,
    Mode,
    each_mode,
    episodes,
    fresh_params,
    run,
    same_bits,
    tasks_of,
)
from tests.contract.setting import CPU, with_columns


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
        assert any(not torch.equal(p, moved[n]) for n, p in fresh_params(curious()).items())
    with pytest.raises(UndeclaredNeed, match=look.told):
        step()


LATENT = Look("latent", ("latent",), "latent", lambda task: task.info["latent"])
TRUTH = Look("truth", None, "query_y", lambda task: task.query.y)


@pytest.mark.parametrize("look", [LATENT, TRUTH], ids=lambda look: look.name)
def test_an_evaluation_shows_what_is_declared(look: Look):
    """Evaluated, asked for what predicts, and looked into for diagnostics."""
    trained, data = fresh(CURVES)
    _, test = sources(trained, data)
    how = EvalProtocol("test-7q", "test", 10, 7, 3, 0, 1, 1)
    plain = vars(trained.learner)

    def everything(*wants: str) -> list[Any]:
        curious = Curious(**plain, wants=frozenset(wants), at_task=look.at_task)
        mine = replace(trained, learner=curious)
        asked: list[Callable[[], Any]] = [
            lambda: evaluate(mine, test, how, Solo()).needs,
            lambda: mine.fit(mine.tasks(test, [0]).task(0), "test", 0, 1)[0],
            lambda: examples(mine, test, 1, 1)["outputs"],
            lambda: feature_similarity(mine, test, 1),
        ]
        return asked

    for ask in everything():
        with pytest.raises(UndeclaredNeed, match=look.told):
            ask()
    if look.need is not None:
        found = [ask() for ask in everything(*look.need)]
        assert found[0] == {*look.need}


def test_a_view_keeps_what_is_declared():
    every = frozenset(
        {
            "query_x",
            "unlabeled",
            "unlabeled_y",
            "query_before",
            "latent",
            "class_ids",
            "class_attributes",
            "other",
        }
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
        "class_attributes": view.info["class_attributes"],
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
