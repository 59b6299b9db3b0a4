"""A network whose normalisation layers have a scale and a shift of their own for each inner step.

"Per-step batch normalization weights and biases" of Antoniou, Edwards & Storkey, "How to train your
MAML", ICLR 2019, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from metadist.backbones import Backbone, Layer, Norm, Statistics, Trace
from metadist.keys import Key
from metadist.tasks import Params


@dataclass(frozen=True)
class PerStepNorm:
    """A backbone whose scales and shifts are [T, C], of which ``Norm.step`` chooses the row.

    All rows start as the network's own; passes after more than T - 1 steps take the last.

    Attributes:
        steps: T, adaptation steps in training; at least one row is kept.
    """

    network: Backbone
    steps: int

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The network's linear maps; the last one is the head."""
        return self.network.layers

    @property
    def norm_layers(self) -> dict[str, int]:
        """Channels of each normalisation layer."""
        return self.network.norm_layers

    @property
    def norm_parameters(self) -> frozenset[str]:
        """Names of the parameters of normalisation layers."""
        return self.network.norm_parameters

    def init(self, key: Key) -> Params:
        """The network's parameters, those of its normalisation layers once for each step."""
        rows = max(self.steps, 1)
        return {
            name: p.repeat(rows, 1) if name in self.norm_parameters else p
            for name, p in self.network.init(key).items()
        }

    def forward(
        self, params: Params, x: Tensor, norm: Norm, trace: Trace | None = None
    ) -> tuple[Tensor, Statistics]:
        """Outputs [n, outputs] for examples [n, ...]."""
        return self.network.forward(params, x, norm, trace)
