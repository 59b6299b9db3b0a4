"""A network whose normalisation layers have a scale and a shift of their own for each inner step.

"Per-step batch normalization weights and biases" of Antoniou, Edwards & Storkey, "How to train your
MAML", ICLR 2019, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from metadist.inner.wrapped import Wrapped
from metadist.keys import Key
from metadist.tasks import Params


@dataclass(frozen=True)
class PerStepNorm(Wrapped):
    """A backbone whose scales and shifts are [T, C], of which ``Norm.step`` chooses the row.

    All rows start as the network's own; passes after more than T - 1 steps take the last.

    Attributes:
        steps: T, adaptation steps in training; at least one row is kept.
    """

    steps: int

    def init(self, key: Key) -> Params:
        """The network's parameters, those of its normalisation layers once for each step."""
        rows = max(self.steps, 1)
        return {
            name: p.repeat(rows, 1) if name in self.norm_parameters else p
            for name, p in self.network.init(key).items()
        }
