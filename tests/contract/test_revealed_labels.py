"""Labels that may be asked for: those that were not asked for change no bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.context import Context
from metadist.errors import UndeclaredNeed
from metadist.inner.inner_loop import InnerLoop
from metadist.tasks import (
    Examples,
    Params,
    Phase,
    Task,
    TaskBatch,
    Unlabeled,
)
from tests.contract.cases import WAYS, built
from tests.contract.known_tasks import (
    CASE,
    POINTS,
    Mode,
    each_mode,
    run,
    same_bits,
    tasks_of,
)
from tests.contract.setting import with_columns

ASKED = 3


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
    assert hidden[torch.tensor([2, 0])].reveal(torch.tensor([0])).tolist() == [2]
