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

from metadist.backbones import Backbone
from metadist.context import Context
from metadist.inner.normalisation import Normalisation, Normalised
from metadist.inner.passes import passed
from metadist.keys import Key
from metadist.learner import Loss
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Prediction, Task, TaskShape


def joint_shape(shape: TaskShape) -> TaskShape:
    """The shape of all tasks taken as one: in classification an output for each training class."""
    return replace(shape, outputs=shape.classes, ways=shape.classes) if shape.ways else shape


@dataclass(frozen=True)
class Pretraining(Normalised):
    """Joint training; ``adapt`` and ``predict`` are missing.

    ``running`` normalisation averages the statistics of training passes; with the other modes
    (but ``none``) a pass in training uses those of its own examples, support and query together.

    Attributes:
        network: for tasks of :func:`joint_shape`; it has all the parameters.
        ways: classes of a few-shot task; 0 where values are predicted.
    """

    objective: Objective
    network: Backbone
    ways: int

    @property
    def needs(self) -> frozenset[str]:
        """Which class of the training part each way is."""
        return frozenset({"class_ids"} if self.ways else ())

    @property
    def normalisation(self) -> Normalisation:
        """How the trained network's passes are normalised."""
        return Normalisation(self.network, per_step=False)

    def init(self, key: Key) -> Params:
        return self.network.init(key)

    def inputs(self, examples: Examples, task: Task) -> Examples:
        """What the network is shown of examples."""
        return examples

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """In training the joint loss, a mean over all examples; else that of the few-shot task."""
        if ctx.phase != "train":
            return super().loss(params, task, ctx)
        x = torch.cat([task.support.x, task.query.x])
        y = torch.cat([task.support.y, task.query.y])
        if self.ways:
            y = task.info["class_ids"][y]
        joint = self.inputs(Examples(x, y), task)
        norm = self.normalisation.support(ctx)
        value, statistics = passed(self.network, params, joint.x, norm, ctx)
        loss = self.objective.loss_and_metrics(Prediction(value), joint)
        return Loss(*loss, self.normalisation.sums([statistics]))
