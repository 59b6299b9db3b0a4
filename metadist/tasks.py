"""Task, TaskBatch and Context: the only things that pass between data and learning.

Shapes: T tasks, S support examples, Q query examples, N ways, L latent parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data_pipeline.episodes.types import TURNS, EpisodeBatch

#: Named tensors: all meta-parameters, or those that are adapted, or their gradients.
Params = dict[str, Tensor]
TaskKind = Literal["classification", "regression"]
NormMode = Literal["transductive", "support", "running", "none"]
Phase = Literal["train", "val", "test"]


@dataclass(frozen=True)
class TaskShape:
    """What a learner must know of its tasks before it sees one.

    Attributes:
        kind: classification (cross-entropy over N ways) or regression (mean squared error).
        inputs: shape of one example: (C, H, W) for images, (D,) for functions.
        outputs: ways N, or the dimension of a function's value.
        classes: different classes of the training part, turned ones counted; 0 for functions.
        latent: number of true parameters of a function; 0 for images.
    """

    kind: TaskKind
    inputs: tuple[int, ...]
    outputs: int
    classes: int = 0
    latent: int = 0


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        support_x: float [S, C, H, W] or [S, D]; support_y: int64 [S] or float [S, E].
        query_x, query_y: the same with Q.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


@dataclass(frozen=True)
class TaskBatch:
    """T tasks of equal shape, stacked along a leading axis, with their episode ids [T].

    Attributes:
        info: what the learner declares that it needs to know beside the examples, see
            ``Context.info``; each [T, ...].
    """

    ids: tuple[int, ...]
    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    info: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def task(self, index: int) -> Task:
        """The task at a position of the batch."""
        return Task(
            self.support_x[index], self.support_y[index], self.query_x[index], self.query_y[index]
        )

    def slice(self, start: int, stop: int) -> TaskBatch:
        """Tasks ``start`` to ``stop - 1``."""
        return TaskBatch(
            self.ids[start:stop],
            self.support_x[start:stop],
            self.support_y[start:stop],
            self.query_x[start:stop],
            self.query_y[start:stop],
            {name: values[start:stop] for name, values in self.info.items()},
        )

    def info_of(self, index: int) -> dict[str, Tensor]:
        """What the learner may know of the task at a position."""
        return {name: values[index] for name, values in self.info.items()}


@dataclass(frozen=True)
class Context:
    """What a learner may know beside its parameters and a task.

    Attributes:
        phase: train, val or test.
        step, total_steps: outer steps done and planned.
        inner_steps: adaptation steps to take in this phase.
        trained_steps: adaptation steps taken in training; per-step quantities end there.
        norm: how normalisation layers get their statistics.
        functional: take gradients through ``torch.func`` (needed under ``vmap``) instead of the
            tape, which is faster for one task at a time.
        state: outer state of the learner that is not trained by gradient (running statistics).
        noise: this task's random numbers.
        info: what the learner declares that it ``needs`` to know of this task: ``class_ids``
            int64 [N], the training class of each way, in [0, ``TaskShape.classes``); ``latent``
            [L], the true parameters of its function.
        step_scalars: the learner's scalars of all tasks of this step, each [B]; constants.
    """

    phase: Phase
    step: int
    total_steps: int
    inner_steps: int
    trained_steps: int
    norm: NormMode
    functional: bool = False
    state: Mapping[str, Tensor] = field(default_factory=dict)
    noise: Mapping[str, Tensor] = field(default_factory=dict)
    info: Mapping[str, Tensor] = field(default_factory=dict)
    step_scalars: Mapping[str, Tensor] = field(default_factory=dict)

    def for_task(self, noise: Mapping[str, Tensor], info: Mapping[str, Tensor]) -> Context:
        """This context for a task with these random numbers and this information."""
        return replace(self, noise=noise, info=info)


def to_inputs(x: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Examples as a network sees them.

    Images uint8 [..., H, W, C] become [..., C, H, W] in [0, 1]; functions keep their shape.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    if tensor.dtype == torch.uint8:
        tensor = tensor.movedim(-1, -3).to(dtype) / 255
        return tensor.contiguous()
    return tensor.to(dtype)


def to_tasks(
    episodes: EpisodeBatch,
    dtype: torch.dtype,
    device: torch.device,
    needs: frozenset[str] = frozenset(),
    turned: bool = True,
) -> TaskBatch:
    """Tensors of a batch of episodes: images scaled to [0, 1] in [C, H, W] order.

    Args:
        needs: what else of a task to hand on.
        turned: whether turned images are classes of their own.
    """

    def moved(values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(device)
        return tensor if tensor.dtype == torch.int64 else tensor.to(dtype)

    info = {}
    for name in needs & episodes.columns.keys():
        values = episodes.columns[name]
        # Episodes count four turns of a class whether they are used or not.
        turns = TURNS if name == "class_ids" and not turned else 1
        info[name] = moved(values // turns if turns > 1 else values)
    return TaskBatch(
        ids=tuple(int(i) for i in episodes.ids),
        support_x=to_inputs(episodes.support_x, dtype, device),
        support_y=moved(episodes.support_y),
        query_x=to_inputs(episodes.query_x, dtype, device),
        query_y=moved(episodes.query_y),
        info=info,
    )
