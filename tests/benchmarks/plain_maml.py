"""MAML as one writes it by hand: the loop that everything else is measured against.

Finn, Abbeel & Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017:
four convolutions with transductive normalisation; the inner loop adapts all parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Params = dict[str, Tensor]
#: Support images and labels, query images and labels.
Task = tuple[Tensor, Tensor, Tensor, Tensor]


def conv4(params: Params, x: Tensor, pool: bool) -> Tensor:
    """Outputs [n, ways] for x [n, C, H, W]."""
    for block in range(1, 5):
        x = F.conv2d(x, params[f"conv{block}.weight"], stride=1 if pool else 2, padding=1)
        scale, shift = params[f"norm{block}.scale"], params[f"norm{block}.shift"]
        x = F.relu(F.batch_norm(x, None, None, scale, shift, training=True, eps=1e-3))
        if pool:
            x = F.max_pool2d(x, 2)
    features = x.flatten(1) if pool else x.mean((2, 3))
    return F.linear(features, params["head.weight"], params["head.bias"])


class PlainMAML:
    """Parameters, an outer Adam, and a step of both loops.

    Args:
        params: the initialisation; copied.
        pool: of the network: pooling and flattening, else strides and a mean.
    """

    def __init__(self, params: Params, inner_lr: float, inner_steps: int, pool: bool) -> None:
        self.params = {name: p.clone().requires_grad_() for name, p in params.items()}
        self.inner_lr, self.inner_steps, self.pool = inner_lr, inner_steps, pool
        self.optimizer = torch.optim.Adam(self.params.values(), lr=1e-3)

    def query_loss(self, task: Task) -> Tensor:
        """The loss of the queries after adaptation, with the graph of all inner steps."""
        support_x, support_y, query_x, query_y = task
        fast = dict(self.params)
        for _ in range(self.inner_steps):
            outputs = conv4(fast, support_x, self.pool)
            loss = outputs.shape[1] * F.cross_entropy(outputs, support_y)
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            pairs = zip(fast.items(), gradients, strict=True)
            fast = {name: weight - self.inner_lr * g for (name, weight), g in pairs}
        return F.cross_entropy(conv4(fast, query_x, self.pool), query_y)

    def gradient(self, tasks: Sequence[Task]) -> Params:
        """The mean meta-gradient of the tasks, which is left in ``.grad``."""
        self.optimizer.zero_grad()
        for task in tasks:
            (self.query_loss(task) / len(tasks)).backward()
        return {name: p.grad for name, p in self.params.items() if p.grad is not None}

    def step(self, tasks: Sequence[Task]) -> None:
        """One outer step."""
        self.gradient(tasks)
        self.optimizer.step()
