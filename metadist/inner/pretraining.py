"""One network trained on the examples of all tasks together, which then meets new tasks.

In training a task is no task: its examples, support and query alike, are examples of one function
of all tasks, or of one classification into all classes of the training part (MAML's code fits its
baseline to the support points alone; the rest are as good). There is no inner
loop, so nothing teaches the network to adapt. What becomes of it in a new task (validation and
test) is a subclass's ``adapt`` and ``predict``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metadist.backbones import Backbone
from metadist.inner.losses import accuracy, task_loss
from metadist.inner.normalisation import Normalisation
from metadist.keys import Key
from metadist.learner import Learner, Loss
from metadist.tasks import Context, Params, Task, TaskKind, TaskShape


def joint_shape(shape: TaskShape) -> TaskShape:
    """The shape of all tasks taken as one: in classification an output for each training class."""
    return replace(shape, outputs=shape.classes) if shape.kind == "classification" else shape


def without_steps(ctx: Context) -> Context:
    """The context of a learner whose training takes no adaptation steps."""
    return replace(ctx, trained_steps=0)


@dataclass(frozen=True)
class Pretraining(Learner):
    """Joint training; ``adapt`` and ``predict`` are missing.

    ``running`` normalisation averages the statistics of training passes; with the other modes
    (but ``none``) a pass in training uses those of its own examples, support and query together.

    Attributes:
        network: for tasks of :func:`joint_shape`; it has all the parameters.
    """

    network: Backbone
    kind: TaskKind

    @property
    def needs(self) -> frozenset[str]:
        """Which class of the training part each way is."""
        return frozenset({"class_ids"} if self.kind == "classification" else ())

    @property
    def normalisation(self) -> Normalisation:
        """How the trained network's passes are normalised."""
        return Normalisation(self.network)

    def init(self, key: Key) -> Params:
        """The network's parameters."""
        return self.network.init(key)

    def inputs(self, x: Tensor, ctx: Context) -> Tensor:
        """What the network is shown of examples x [n, ...]."""
        return x

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """In training the joint loss, a mean over all examples; else that of the few-shot task."""
        if ctx.phase != "train":
            fitted = self.adapt(params, task.support_x, task.support_y, ctx)[-1]
            return self._scored(self.predict(fitted, task.query_x, ctx), task.query_y, {})
        x = self.inputs(torch.cat([task.support_x, task.query_x]), ctx)
        y = torch.cat([task.support_y, task.query_y])
        if self.kind == "classification":
            y = ctx.info["class_ids"][y]
        outputs, statistics = self.network.forward(params, x, self.normalisation.support(ctx))
        return self._scored(outputs, y, self.normalisation.sums([statistics]))

    def _scored(self, outputs: Tensor, targets: Tensor, statistics: dict[str, Tensor]) -> Loss:
        value = task_loss(self.kind, outputs, targets)
        metrics = {"loss": value.detach()}
        if self.kind == "classification":
            metrics["accuracy"] = accuracy(outputs.detach(), targets)
        return Loss(value, metrics, statistics)

    def statistics(self, ctx: Context) -> dict[str, tuple[int, ...]]:
        """Mean and second moment [1, C] of each norm layer, in ``running`` mode only."""
        return self.normalisation.statistics(without_steps(ctx))

    def initial_state(self, ctx: Context) -> dict[str, Tensor]:
        """Running statistics [1, C], float64: mean 0 and variance 1."""
        return self.normalisation.initial_state(without_steps(ctx))

    def update_state(
        self, state: Mapping[str, Tensor], means: Mapping[str, Tensor], ctx: Context
    ) -> dict[str, Tensor]:
        """Running statistics after a step of training."""
        return self.normalisation.update_state(state, means)
