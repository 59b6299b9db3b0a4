"""A long short-term memory in plain tensor operations, without state of its own.

Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997, with the forget gate of Gers, Schmidhuber
& Cummins, "Learning to Forget", 2000:

    i, f, o = sigmoid(W x + U h + b);    g = tanh(W x + U h + b)
    c' = f c + i g;                      h' = o tanh(c')

each with its own rows of W, U and b, in the order i, f, g, o. The fused cells of torch are not
used: they have no second derivative, and no rule under ``vmap``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.keys import Key
from metadist.tasks import Params

GATES = 4


@dataclass(frozen=True)
class LSTM:
    """A cell, and passes over sequences.

    Attributes:
        name: its parameters are ``<name>.inputs`` [4 H, D], ``<name>.recurrent`` [4 H, R] and
            ``<name>.bias`` [4 H].
        inputs: D, numbers of an input.
        units: H, of cell and output.
        recurrent: R, of what is fed back; 0: the output alone, R = H.
    """

    name: str
    inputs: int
    units: int
    recurrent: int = 0

    def init(self, key: Key) -> Params:
        """Uniform in +-1/sqrt(H), as torch's."""
        sizes = {
            "inputs": (GATES * self.units, self.inputs),
            "recurrent": (GATES * self.units, self.recurrent or self.units),
            "bias": (GATES * self.units,),
        }
        bound = 1.0 / math.sqrt(self.units)
        return {
            f"{self.name}.{part}": (2 * key.fold(self.name, part).uniform(size) - 1) * bound
            for part, size in sizes.items()
        }

    def gated(self, params: Params, x: Tensor) -> Tensor:
        """What inputs [n, D] add to the gates, [n, 4 H]; all steps of a sequence at once."""
        return F.linear(x, params[f"{self.name}.inputs"], params[f"{self.name}.bias"])

    def step(
        self, params: Params, gated: Tensor, fed_back: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Output and cell [n, H] after a step.

        Args:
            gated: [n, 4 H], see :meth:`gated`.
            fed_back: [n, R], the output before the step and whatever else.
            cell: [n, H].
        """
        gates = gated + F.linear(fed_back, params[f"{self.name}.recurrent"])
        i, f, g, o = gates.chunk(GATES, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell

    def outputs(self, params: Params, sequence: Tensor, *, backwards: bool = False) -> Tensor:
        """Outputs [T, H] at the places of a sequence [T, D], from its first or its last on."""
        gated = self.gated(params, sequence)
        hidden = cell = sequence.new_zeros(1, self.units)
        found: list[Tensor] = []
        for place in reversed(range(len(gated))) if backwards else range(len(gated)):
            hidden, cell = self.step(params, gated[place : place + 1], hidden, cell)
            found.append(hidden)
        return torch.cat(found[::-1] if backwards else found)
