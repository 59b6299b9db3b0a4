"""Seeing that what must be the same is the same: on every worker, and made a second time.

A part that draws from torch's own generator, or any other but its key's, gives other numbers in
each process. Each worker would then go on from parameters of its own, and no run could be
repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from data_pipeline.episodes.types import EpisodeBatch, EpisodeSource
from metadist.compute.collectives import Group
from metadist.compute.digest import params_sha256
from metadist.compute.learners import Learners
from metadist.errors import NumericsError
from metadist.evaluation.evaluator import predictions
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, TaskShape
from metadist.training.trainer import Trainer

CURE = (
    "a part draws random numbers that do not come from its key (a generator of torch's, NumPy's or "
    "Python's own, dropout, a module's default initialisation): draw them from the key, with "
    "key.module(...) for a module's initialisation; see 'Randomness' in docs/add-an-algorithm.md"
)


def check_workers(tensors: Params, group: Group, when: str) -> None:
    """See that all workers have the same tensors, bit for bit.

    Raises:
        NumericsError: they have not; on every worker, naming the workers and tensors.
    """
    mine = _digests(tensors)
    first = group.broadcast(mine)
    names = sorted(first)
    differs = torch.zeros(group.size, len(names) + 1, dtype=torch.int64)
    differs[group.rank] = torch.tensor([*(mine.get(n) != first[n] for n in names), mine != first])
    group.sum_(differs)
    if not bool(differs.any()):
        return
    ranks = differs[:, -1].nonzero().flatten().tolist()
    other = [n for n, found in zip(names, differs[:, :-1].any(0).tolist(), strict=True) if found]
    raise NumericsError(
        f"{when}: workers {ranks} of {group.size} have other numbers than worker 0: "
        f"{_listed(other)}; {CURE}"
    )


def check_repeated(one: Params, other: Params, what: str) -> None:
    """See that what was computed twice is the same, bit for bit.

    Raises:
        NumericsError: it is not; the tensors are named.
    """
    there, here = _digests(one), _digests(other)
    differing = sorted(n for n in {*there, *here} if there.get(n) != here.get(n))
    if differing:
        raise NumericsError(
            f"{what}: other numbers when computed again: {_listed(differing)}; {CURE}"
        )


def first_predictions(trained: TrainedLearner, source: EpisodeSource, steps: int) -> Params:
    """Outputs for the first episode after each number of steps, by a name for messages."""
    ((_, outputs),) = predictions(trained, source, [0], steps)
    return {f"predictions after step {number}": output for number, output in enumerate(outputs)}


def named(recipe: Recipe) -> str:
    """The parts of a recipe that may draw random numbers, for a message."""
    return f"{recipe.algorithm.name} on {recipe.model.name}"


class Twin:
    """A second trainer from the same recipe with all parts built anew, for the first step.

    Args:
        first: the trainer of this worker, fresh.
    """

    def __init__(self, first: Trainer, shape: TaskShape, group: Group) -> None:
        recipe = first.recipe
        self._who = named(recipe)
        self._first = first
        self._learners = Learners(recipe, shape)
        built = self._learners.after(0)
        self._second: Trainer | None = Trainer(recipe, built, shape.kind, group, first.device)

    def check_fresh(self) -> None:
        """Compare fresh parameters and states.

        Raises:
            NumericsError: they differ.
        """
        self._compare(f"fresh {self._who}")

    def follow(self) -> None:
        """Before the first step: begin it from where the first trainer does."""
        if self._second is not None:
            self._second.restore(self._first.state())
            self._second.algorithm = self._learners.after(self._first.step_done)

    def check_step(self, episodes: EpisodeBatch | None, ids: Sequence[int]) -> None:
        """After the first step: take it too; nothing after others, nor where sums are not exact.

        Raises:
            NumericsError: parameters or states after it differ.
        """
        if self._second is not None and self._first.recipe.engine.reduction == "exact":
            self._second.step(episodes, ids)
            self._compare(f"step {self._first.step_done} of {self._who}")
        self._second = None

    def _compare(self, what: str) -> None:
        assert self._second is not None
        check_repeated(self._first.state().tensors(), self._second.state().tensors(), what)


def _digests(tensors: Params) -> dict[str, str]:
    return {name: params_sha256({name: tensor}) for name, tensor in tensors.items()}


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join([*names][:3]) or 'their names'}{more}"
