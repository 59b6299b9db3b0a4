"""A trained learner, and how examples are read for it: what ``metadist.load`` returns."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray

from metadist.compute.learners import with_ways
from metadist.errors import AdaptError, MetadistError, RecipeError, RunError
from metadist.evaluation.inference.fitted_model import FittedModel
from metadist.evaluation.inference.inputs import ImageInputs, Inputs, ValueInputs
from metadist.evaluation.inference.saved_model import SavedModel, write
from metadist.evaluation.inference.targets import labels, values
from metadist.evaluation.inference.task_facts import TaskFacts
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.objectives import Metric
from metadist.recipe.sections import MOST_STEPS
from metadist.statistics.format import score_ci

#: What a learner may want to know of a task and examples in memory say, or need not say.
KNOWN = frozenset({"query_x", "unlabeled", "class_ids"})


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """A trained learner in memory.

        model = metadist.load("first")
        fitted = model.adapt(images, ["cat", "dog", "cat", "dog"])
        print(fitted.predict(others).labels)

    Attributes:
        trained: the learner with its parameters.
        tasks: what it knows of its tasks.
        facts: where it comes from: run, recipe hash, dataset and its digest, checkpoint, result.
        plugins: of its learner and network, as run.json has them.
        parts: brings these into use while a learner is built.
    """

    trained: TrainedLearner
    tasks: TaskFacts
    facts: Mapping[str, Any] = field(default_factory=dict)
    plugins: Mapping[str, Any] = field(default_factory=dict)
    parts: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    @classmethod
    def of_saved(
        cls,
        saved: SavedModel,
        device: torch.device,
        parts: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> TrainedModel:
        """What :meth:`save` has written; raises as :meth:`SavedModel.learner`."""
        return cls(saved.learner(device), saved.tasks, saved.facts, saved.plugins, parts)

    @property
    def ways(self) -> int:
        """Classes of the tasks it was trained for; 0 where it learned values."""
        return self.tasks.shape.ways

    @property
    def inputs(self) -> Inputs:
        """How examples are read."""
        prepare = self.tasks.preparation
        return ValueInputs(self.tasks.shape.inputs) if prepare is None else ImageInputs(prepare)

    def inverted(self) -> TrainedModel:
        """The same learner for images whose light and dark are exchanged.

        Raises:
            AdaptError: it sees no images.
        """
        prepare = self.tasks.preparation
        if prepare is None:
            raise AdaptError("invert: this learner sees numbers, not images; leave it out")
        return replace(
            self, tasks=replace(self.tasks, preparation=replace(prepare, invert=not prepare.invert))
        )

    def adapt(
        self, x: Any, y: Any, *, unlabeled: Any = None, steps: int | None = None
    ) -> FittedModel:
        """Adapt to a support set.

        Labels take the learner's outputs in sorted order, and examples are shown in that order
        (those of a label as they are given), so the order of labels does not matter. Random
        numbers, where a learner draws some, are the same at each call.

        Args:
            x: S examples. Images: a list of Pillow's images, arrays or tensors, or one array
                [S, H, W, C] or tensor [S, C, H, W]; of any size, prepared as image files are; see
                :mod:`metadist.evaluation.inference.inputs`. Points of a function: numbers [S, D].
            y: S labels, of any type that can be hashed and sorted; of functions values [S, E].
            unlabeled: more examples, as ``x``, for a learner that learns from such.
            steps: adaptation steps; as trained if None.

        Raises:
            AdaptError: examples or labels that cannot be read or do not belong together, too many
                or too few classes for this learner, or steps that cannot be taken.
        """
        support = self.inputs.read(x, "support")
        more = None if unlabeled is None else self.inputs.read(unlabeled, "unlabeled")
        return self.adapt_prepared(support, y, unlabeled=more, steps=steps)

    def adapt_prepared(
        self,
        support: NDArray[Any],
        y: Any,
        *,
        unlabeled: NDArray[Any] | None = None,
        steps: int | None = None,
    ) -> FittedModel:
        """:meth:`adapt` to what :attr:`inputs` has read; raises AdaptError as that."""
        if not len(support):
            what = "image" if self.ways else "point"
            raise AdaptError(
                f"no support {what}: the learner adapts to labelled {what}s, give some"
            )
        if steps is not None and not _is_count(steps, MOST_STEPS):
            raise AdaptError(
                f"steps: a whole number between 0 and {MOST_STEPS} is needed, got {steps!r}"
            )
        self._check_unlabeled(unlabeled)
        self._check_needs()
        count, outputs = len(support), self.tasks.shape.outputs
        targets = labels(y, count) if self.ways else values(y, count, outputs)
        trained, rows = self._for(targets.classes), [*targets.order]
        shown = replace(targets, y=targets.y[rows])
        return FittedModel(trained, self.inputs, support[rows], shown, unlabeled, steps, self.ways)

    def save(self, folder: str | Path) -> Path:
        """Write it to a folder, new or empty, from which ``metadist.load`` reads it.

        The folder stands alone: it needs neither the run nor its data.

        Raises:
            AdaptError: something is there already.
        """
        ways: int | Literal["any"] = "any" if self.any_ways else self.ways
        return write(folder, self.trained, self.tasks, ways, self.facts, self.plugins)

    def _check_unlabeled(self, unlabeled: NDArray[Any] | None) -> None:
        takes = "unlabeled" in self.trained.learner.needs
        name = self.trained.recipe.algorithm.name
        if unlabeled is not None and not takes:
            raise AdaptError(f"unlabeled: {name} learns from labelled examples alone; leave it out")
        if takes and (unlabeled is None or not len(unlabeled)):
            raise AdaptError(f"unlabeled: {name} learns from unlabeled examples too; give some")

    def _check_needs(self) -> None:
        unknown = sorted(self.trained.learner.needs - KNOWN)
        if unknown:
            raise AdaptError(
                f"{self.trained.recipe.algorithm.name} wants to know {', '.join(unknown)} of a "
                "task, which examples in memory do not say; metadist evaluate gives it tasks of "
                "its data"
            )

    def _for(self, classes: Sequence[Any]) -> TrainedLearner:
        if not self.ways or len(classes) == self.ways:
            return self.trained
        if len(classes) < 2:
            raise AdaptError(f"at least two classes are needed to tell apart, got {classes[0]!r}")
        try:
            return self.for_ways(len(classes))
        except (RecipeError, RunError) as error:
            shown = ", ".join(map(str, classes[:10])) + (", …" if len(classes) > 10 else "")
            raise AdaptError(
                f"{error}; give {self.ways} classes, got {len(classes)} ({shown})"
            ) from None

    def for_ways(self, ways: int) -> TrainedLearner:
        """The learner for tasks of so many classes.

        Raises:
            RunError: parameters depend on the number; they are named.
            RecipeError: its network is none for so many.
        """
        trained = self.trained
        with self.parts():
            other = with_ways(trained.recipe, self.tasks.shape, trained.params, ways)
        return replace(trained, learner=other)

    @cached_property
    def any_ways(self) -> bool:
        """Whether it can tell another number of classes than it was trained for."""
        try:
            return bool(self.ways and self.for_ways(self.ways + 1))
        except MetadistError:  # nobody has asked for so many yet: no reason to stop
            return False

    @property
    def metric(self) -> Metric:
        """What decides how good it is."""
        return self.trained.metric

    def __repr__(self) -> str:
        recipe, facts, shape = self.trained.recipe, self.facts, self.tasks.shape
        step = (facts.get("checkpoint") or {}).get("step")
        at = "" if step is None else f", checkpoint of step {step}"
        of = f"run {facts['run']}{at}" if "run" in facts else "no run"
        lines = [f"{recipe.algorithm.name} ({recipe.model.name}) of {of}"]
        numbers = " x ".join(map(str, shape.inputs))
        sizes = f"inputs of {numbers} number{'' if numbers == '1' else 's'}"
        if prepare := self.tasks.preparation:
            height, width, channels = prepare.shape
            sizes = f"images {height} x {width}, {'gray' if channels == 1 else 'colour'}"
        shots = recipe.data.shots
        many = "any number of classes" if self.any_ways else f"{self.ways} classes"
        tasks = (
            f"{self.ways}-way {shots}-shot; tells {many} apart" if self.ways else f"{shots}-shot"
        )
        lines.append(f"trained on {recipe.data.dataset}, {tasks}; {sizes}")
        lines.append(f"adaptation steps: {recipe.inner.steps}, normalisation: {recipe.model.norm}")
        if facts.get(self.metric.name) is not None:
            ways = recipe.eval_ways
            kind = "" if ways == recipe.data.ways else f"{ways}-way "
            mean, ci95 = facts[self.metric.name], facts.get("ci95")
            found = score_ci(self.metric, mean, math.nan if ci95 is None else ci95)
            told = " ".join(part for part in found if part)
            lines.append(f"{self.metric.title} on {kind}test tasks: {told}")
        return "\n".join(lines)


def _is_count(given: Any, most: int) -> bool:
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    return whole and 0 <= int(given) <= most
