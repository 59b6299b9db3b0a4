"""An inner loop that changes the last layer only.

What enters that layer does not change from step to step: where kernels compute the passes, the
layers below are passed once per task, and the steps are those of a linear model on their features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from metadist.backbones import Backbone, Layer, LayerHook, Norm, Output, Statistics
from metadist.context import Context
from metadist.inner.inner_loop import AdaptedModel, InnerLoop
from metadist.keys import Key
from metadist.tasks import Examples, Params, Task


@dataclass(frozen=True)
class Head(Backbone):
    """The last layer of a network, as a network of features [n, D]."""

    network: Backbone

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.network.layers[-1:]

    def init(self, key: Key) -> Params:
        fresh = self.network.init(key)
        return {name: fresh[name] for name in self.layers[0].parameters}

    def forward(
        self,
        params: Params,
        x: Tensor,
        norm: Norm,
        *,
        head: bool = True,
        layer_hook: LayerHook | None = None,
    ) -> Output:
        weight, *bias = (params[name] for name in self.layers[0].parameters)
        return Output(F.linear(x, weight, *bias), x, {}, {})


@dataclass(frozen=True)
class HeadLoop(InnerLoop):
    """See the module; ``only`` are the parameters of the network's last layer."""

    def steps(
        self, params: Params, start: Params, task: Task, ctx: Context, recorded: list[Statistics]
    ) -> Iterator[AdaptedModel]:
        support, norm = task.support, self.normalisation.support(ctx)
        below = None
        if not ctx.functional and ctx.inner_steps:
            below = self.backbone.fused_value(params, support.x, norm, head=False)
        if below is None:
            yield from super().steps(params, start, task, ctx, recorded)
            return
        features, statistics = below
        if not self.second_order_at(ctx):
            features = features.detach()
        linear = replace(self, backbone=Head(self.backbone))
        seen = Examples(features, support.y, mask=support.mask, extra=support.extra)
        for fitted in InnerLoop.steps(linear, params, start, task.with_support(seen), ctx, []):
            if fitted.step:
                recorded.append(statistics)
            yield replace(fitted, support=support)
