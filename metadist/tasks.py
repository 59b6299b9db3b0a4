"""Tasks as learners see them: examples, and what else is known of a task.

Shapes: T tasks, n examples of a set, N ways, L latent parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from data_pipeline.episodes.types import TURNS, EpisodeBatch
from metadist.errors import UndeclaredNeed

#: Named tensors: all meta-parameters, or those that are adapted, or their gradients.
Params = dict[str, Tensor]
Phase = Literal["train", "val", "test"]
#: What is to be predicted: one of N classes, or numbers.
Targets = Literal["labels", "values"]

#: Sets of examples of a task; a column ``<set>_<name>`` belongs to one, any other is information.
SETS = ("support", "query", "unlabeled")
#: Columns that are known in training only: they say which classes of a part a task is made of.
TRAINING_ONLY = frozenset({"class_ids"})


@dataclass(frozen=True)
class TaskShape:
    """What a learner must know of its tasks before it sees one.

    Attributes:
        inputs: shape of one example: (C, H, W) for images, (D,) for functions.
        outputs: ways N, or the dimension E of a function's value.
        ways: classes of a task; 0 where values are predicted.
        classes: different classes of the training part, turned ones counted; 0 for functions.
        latent: number of true parameters of a function; 0 for images.
        attributes: numbers that are told of each class; 0: none.
    """

    inputs: tuple[int, ...]
    outputs: int
    ways: int = 0
    classes: int = 0
    latent: int = 0
    attributes: int = 0

    @property
    def targets(self) -> Targets:
        """What is to be predicted."""
        return "labels" if self.ways else "values"


class Named(Mapping[str, Tensor]):
    """Tensors by name; a name that is not there is an error which says what to declare."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self._tensors, self._prefix = dict(tensors), prefix

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise _undeclared(f"{self._prefix}{name}")
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _undeclared(what: str) -> UndeclaredNeed:
    return UndeclaredNeed(
        f"{what}: a learner reads it that may not know it here. A learner is shown the support set "
        "and, in predict, the queries' inputs; what else it wants of a task (query_x, unlabeled, "
        "unlabeled_y, query_..., class_ids in training, latent) stands in its `needs`, and the "
        "data must have it"
    )


class Examples:
    """A set of n examples.

    Args:
        x: float [n, ...]; None: not to be seen.
        y: labels int64 [n] or values float [n, E]; None: not to be seen.
        mask: bool [n], which examples count; None: all.
        extra: further columns, each [n, ...].
        name: of the set, for messages.
    """

    def __init__(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        extra: Mapping[str, Tensor] | None = None,
        name: str = "examples",
    ) -> None:
        self._x, self._y, self._name = x, y, name
        self.mask = mask
        self.extra = Named(extra or {}, f"{name}_")

    @property
    def x(self) -> Tensor:
        """Inputs; raises UndeclaredNeed where they are not to be seen."""
        if self._x is None:
            raise _undeclared(f"{self._name}_x")
        return self._x

    @property
    def y(self) -> Tensor:
        """Targets; raises UndeclaredNeed where they are not to be seen."""
        if self._y is None:
            raise _undeclared(f"{self._name}_y")
        return self._y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor) -> Examples:
        """The examples at these rows int64 [k]."""

        def taken(column: Tensor | None) -> Tensor | None:
            return None if column is None else column[rows]

        extra = {name: column[rows] for name, column in self.extra.items()}
        columns = taken(self._x), taken(self._y)
        return Examples(*columns, mask=taken(self.mask), extra=extra, name=self._name)

    def with_x(self, x: Tensor) -> Examples:
        """The same examples with other inputs [n, ...]."""
        return Examples(x, self._y, mask=self.mask, extra=self.extra, name=self._name)

    def with_y(self, y: Tensor) -> Examples:
        """The same examples with other targets."""
        return Examples(self._x, y, mask=self.mask, extra=self.extra, name=self._name)

    def without(self, *columns: str) -> Examples:
        """The same without ``x``, ``y`` or the named further columns."""
        extra = {name: column for name, column in self.extra.items() if name not in columns}
        return Examples(
            None if "x" in columns else self._x,
            None if "y" in columns else self._y,
            mask=self.mask,
            extra=extra,
            name=self._name,
        )

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], name: str) -> Self:
        """From its columns by name."""
        own = dict(tensors)
        columns = (own.pop(column, None) for column in ("x", "y", "mask"))
        x, y, mask = columns
        return cls(x, y, mask=mask, extra=own, name=name)


class Unlabeled(Examples):
    """Examples whose labels are hidden, and perhaps may be asked for."""

    def __init__(self, x: Tensor | None = None, y: Tensor | None = None, **columns: Any) -> None:
        super().__init__(x, None, **columns)
        self._hidden = y

    def reveal(self, rows: Tensor) -> Tensor:
        """The labels int64 [k] of the examples at rows int64 [k]; -1: of none of the ways.

        Raises:
            UndeclaredNeed: ``unlabeled_y`` is not among the learner's needs.
        """
        if self._hidden is None:
            raise _undeclared("unlabeled_y")
        return self._hidden[rows]

    def __getitem__(self, rows: Tensor) -> Unlabeled:
        chosen = super().__getitem__(rows)
        hidden = None if self._hidden is None else self._hidden[rows]
        return Unlabeled(chosen.x, hidden, mask=chosen.mask, extra=chosen.extra, name=self._name)


class Task:
    """One task.

    Attributes:
        support: examples to learn from.
        query: examples to predict; without targets where a learner must not know them.
        info: what a learner declares that it ``needs`` to know of the task beside examples:
            ``class_ids`` int64 [N], the training class of each way, in [0, ``TaskShape.classes``);
            ``latent`` [L], the true parameters of its function.
        slot: int64 scalar, its place among the tasks of the outer step.
    """

    def __init__(
        self,
        support: Examples,
        query: Examples | None = None,
        unlabeled: Unlabeled | None = None,
        info: Mapping[str, Tensor] | None = None,
        slot: Tensor | None = None,
    ) -> None:
        self.support = support
        self.query = Examples(name="query") if query is None else query
        self.info = Named(info or {})
        self._unlabeled, self._slot = unlabeled, slot

    @property
    def unlabeled(self) -> Unlabeled:
        """Examples without labels; raises UndeclaredNeed where there are none to be seen."""
        if self._unlabeled is None:
            raise _undeclared("unlabeled")
        return self._unlabeled

    @property
    def slot(self) -> Tensor:
        """See the class; 0 where a task stands alone."""
        return torch.tensor(0) if self._slot is None else self._slot

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Task:
        """From its columns: ``support_x``, ``query_y``, ``latent`` and the like."""
        sets: dict[str, dict[str, Tensor]] = {name: {} for name in SETS}
        info: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            of, _, column = name.partition("_")
            if column and of in sets:
                sets[of][column] = tensor
            else:
                info[name] = tensor
        slot = info.pop("slot", None)
        hidden = Unlabeled.of(sets["unlabeled"], "unlabeled") if sets["unlabeled"] else None
        support, query = (Examples.of(sets[name], name) for name in ("support", "query"))
        return cls(support, query, hidden, info, slot)

    def with_support(self, support: Examples) -> Task:
        """The same task, to be learned from other examples."""
        return Task(support, self.query, self._unlabeled, self.info, self._slot)

    def view(self, needs: frozenset[str]) -> Task:
        """What may be seen of it before predictions are asked for: no query but what is needed."""
        query = self.visible_query(needs)
        if "query_x" not in needs:
            query = query.without("x")
        return Task(self.support, query, self._unlabeled, self.info, self._slot)

    def visible_query(self, needs: frozenset[str]) -> Examples:
        """The queries as ``predict`` sees them: without targets, with the columns needed."""
        return self.query.without(
            "y", *(name for name in self.query.extra if f"query_{name}" not in needs)
        )


@dataclass(frozen=True)
class TaskBatch:
    """T tasks of equal shape with their episode ids [T].

    Attributes:
        tensors: the tasks' columns, each [T, ...].
    """

    ids: tuple[int, ...]
    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.ids)

    def task(self, index: int) -> Task:
        """The task at a position of the batch."""
        return Task.of({name: column[index] for name, column in self.tensors.items()})

    def slice(self, start: int, stop: int) -> TaskBatch:
        """Tasks ``start`` to ``stop - 1``."""
        tensors = {name: column[start:stop] for name, column in self.tensors.items()}
        return TaskBatch(self.ids[start:stop], tensors)


@dataclass(frozen=True)
class Prediction:
    """What a learner says of n queries.

    Attributes:
        mean: logits [n, N] or values [n, E].
        scale: standard deviation [n, E] of values; None: not said.
        samples: M draws [M, n, ...] of what ``mean`` is the mean of; None: there are none.
    """

    mean: Tensor
    scale: Tensor | None = None
    samples: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def double(self) -> Prediction:
        """The same in float64."""
        return Prediction(**{name: tensor.double() for name, tensor in self.tensors().items()})

    def detach(self) -> Prediction:
        """The same as constants."""
        return Prediction(**{name: tensor.detach() for name, tensor in self.tensors().items()})


def to_inputs(x: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Examples as a network sees them.

    Images uint8 [..., H, W, C] become [..., C, H, W] in [0, 1]; functions keep their shape.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    if tensor.dtype == torch.uint8:
        tensor = tensor.movedim(-1, -3).to(dtype) / 255
        return tensor.contiguous()
    return tensor.to(dtype)


def wanted(column: str, needs: frozenset[str], phase: Phase) -> bool:
    """Whether a column is handed on to a learner with these needs."""
    if column.startswith("support_") or column in ("query_x", "query_y", "query_mask"):
        return True
    if column.startswith("unlabeled_") and column != "unlabeled_y":
        return "unlabeled" in needs
    return column in needs and (phase == "train" or column not in TRAINING_ONLY)


def to_tasks(
    episodes: EpisodeBatch,
    dtype: torch.dtype,
    device: torch.device,
    needs: frozenset[str] = frozenset(),
    phase: Phase = "train",
    *,
    turned: bool = True,
    first_slot: int = 0,
) -> TaskBatch:
    """Tensors of a batch of episodes: images scaled to [0, 1] in [C, H, W] order.

    Args:
        needs: what else of a task to hand on.
        turned: whether turned images are classes of their own.
        first_slot: place of the first of them in the outer step.
    """
    arrays = dict(episodes.arrays())
    ids = tuple(int(i) for i in arrays.pop("ids"))
    tensors = {"slot": torch.arange(first_slot, first_slot + len(ids), device=device)}
    for name, column in arrays.items():
        if not wanted(name, needs, phase):
            continue
        if name == "class_ids" and not turned:
            # Episodes count four turns of a class whether they are used or not.
            column = column // TURNS
        if name.endswith("_x"):
            tensors[name] = to_inputs(column, dtype, device)
            continue
        tensor = torch.from_numpy(np.ascontiguousarray(column)).to(device)
        tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return TaskBatch(ids, tensors)
