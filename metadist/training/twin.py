"""The first outer step, taken twice: all parts are built anew and must do the same."""

from __future__ import annotations

from collections.abc import Sequence

from data_pipeline.episodes.types import EpisodeBatch
from metadist.compute.agreement import check_repeated, named
from metadist.compute.collectives import Group
from metadist.compute.setup import Setup
from metadist.training.trainer import Trainer


class Twin:
    """A second trainer, for the first step.

    Args:
        first: the trainer of this worker, fresh.
        setup: that of the first, with all parts built anew.
    """

    def __init__(self, first: Trainer, setup: Setup, group: Group) -> None:
        self._who = named(setup.recipe)
        self._first = first
        self._second: Trainer | None = Trainer(setup.recipe, setup.learner, group, first.device)

    def check_fresh(self) -> None:
        """Compare fresh parameters and states; raises NumericsError where they differ."""
        self._compare(f"fresh {self._who}")

    def follow(self) -> None:
        """Before the first step: begin it from where the first trainer does."""
        if self._second is not None:
            self._second.restore(self._first.state())

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
