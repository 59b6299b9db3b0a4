"""One network trained on the examples of all tasks together, which then meets new tasks.

In training a task is no task: its examples, support and query alike, are examples of one function
of all tasks, or of one classification into all classes of the training part (MAML's code fits its
baseline to the support points alone; the rest are as good). There is no inner
loop, so nothing teaches the network to adapt. What becomes of it in a new task (validation and
test) is a subclass's ``adapt`` and ``predict``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metadist.backbones import Backbone
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.keys import Key
from metadist.learner import Loss
from metadist.objectives import loss_and_metrics
from metadist.tasks import Context, Params, Task, TaskKind, TaskShape


def joint_shape(shape: TaskShape) -> TaskShape:
    """The shape of all tasks taken as one: in classification an output for each training class."""
    return replace(shape, outputs=shape.classes) if shape.kind == "classification" else shape


@dataclass(frozen=True)
class Pretraining(Normalised):
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
        return Normalisation(self.network, per_step=False)

    def init(self, key: Key) -> Params:
        return self.network.init(key)

    def inputs(self, x: Tensor, ctx: Context) -> Tensor:
        """What the network is shown of examples x [n, ...]."""
        return x

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """In training the joint loss, a mean over all examples; else that of the few-shot task."""
        if ctx.phase != "train":
            fitted = self.adapt(params, task.support_x, task.support_y, ctx)[-1]
            outputs = self.predict(fitted, task.query_x, ctx)
            return Loss(*loss_and_metrics(self.kind, outputs, task.query_y), {})
        x = self.inputs(torch.cat([task.support_x, task.query_x]), ctx)
        y = torch.cat([task.support_y, task.query_y])
        if self.kind == "classification":
            y = ctx.info["class_ids"][y]
        outputs, statistics = self.network.forward(params, x, self.normalisation.support(ctx))
        return Loss(*loss_and_metrics(self.kind, outputs, y), self.normalisation.sums([statistics]))
