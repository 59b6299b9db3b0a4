"""The same MAML with ``higher``: a stock module under a stock optimizer, unrolled.

Grefenstette et al., "Generalized Inner Loop Meta-Learning", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.plain_maml import Params, Task


class Network(nn.Module):
    """Four convolutions from stock layers, for images [n, C, H, W]."""

    def __init__(self, params: Params, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        for block in range(1, 5):
            filters, inputs = params[f"conv{block}.weight"].shape[:2]
            stride = 1 if pool else 2
            convolution = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
            self.add_module(f"conv{block}", convolution)
            norm = nn.BatchNorm2d(filters, eps=1e-3, track_running_stats=False)
            self.add_module(f"norm{block}", norm)
        ways, features = params["head.weight"].shape
        self.head = nn.Linear(features, ways)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [n, ways]."""
        for block in range(1, 5):
            x = F.relu(getattr(self, f"norm{block}")(getattr(self, f"conv{block}")(x)))
            if self.pool:
                x = F.max_pool2d(x, 2)
        return self.head(x.flatten(1) if self.pool else x.mean((2, 3)))


class HigherMAML:
    """As :class:`tests.benchmarks.plain_maml.PlainMAML`."""

    def __init__(self, params: Params, inner_lr: float, inner_steps: int, pool: bool) -> None:
        self.net = Network(params, pool).to(next(iter(params.values())).dtype)
        theirs = {n: n.replace("scale", "weight").replace("shift", "bias") for n in params}
        self.params = {n: self.net.get_parameter(theirs[n]) for n in params}
        with torch.no_grad():
            for name, weight in self.params.items():
                weight.copy_(params[name])
        # All: of what it does not adapt it would take gradients too, through all steps before.
        self.inner = torch.optim.SGD(self.net.parameters(), lr=inner_lr)
        self.inner_steps = inner_steps
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def gradient(self, tasks: Sequence[Task]) -> Params:
        """The mean meta-gradient of the tasks, which is left in ``.grad``."""
        import higher

        self.optimizer.zero_grad()
        for support_x, support_y, query_x, query_y in tasks:
            unrolled = higher.innerloop_ctx(self.net, self.inner, copy_initial_weights=False)
            with unrolled as (functional, inner):
                for _ in range(self.inner_steps):
                    outputs = functional(support_x)
                    inner.step(outputs.shape[1] * F.cross_entropy(outputs, support_y))
                (F.cross_entropy(functional(query_x), query_y) / len(tasks)).backward()
        return {name: p.grad for name, p in self.params.items() if p.grad is not None}

    def step(self, tasks: Sequence[Task]) -> None:
        """One outer step."""
        self.gradient(tasks)
        self.optimizer.step()
