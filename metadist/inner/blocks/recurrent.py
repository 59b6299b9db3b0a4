"""A controller with a memory, over a sequence of inputs.

    h_t = controller(x_t, r_{t-1});    r_t = memory(h_t)

What does not recur, a controller's map of its inputs, is computed for all places at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.inner.blocks.memory import Memory, State
from metadist.inner.embedding.lstm import LSTM
from metadist.keys import Key
from metadist.tasks import Params


@dataclass(frozen=True)
class FeedForward:
    """A controller without a state of its own: h = tanh(W x + U r + b).

    Is called as an :class:`LSTM`, whose cell it leaves alone.

    Attributes:
        name: its parameters are ``<name>.inputs`` [H, D], ``<name>.recurrent`` [H, R] and
            ``<name>.bias`` [H].
        inputs, units, recurrent: D, H and R, numbers that were read before.
    """

    name: str
    inputs: int
    units: int
    recurrent: int

    def init(self, key: Key) -> Params:
        """Uniform in +-1/sqrt(D + R)."""
        bound = 1.0 / math.sqrt(self.inputs + self.recurrent)
        sizes = {
            "inputs": (self.units, self.inputs),
            "recurrent": (self.units, self.recurrent),
            "bias": (self.units,),
        }
        return {
            f"{self.name}.{part}": (2 * key.fold(self.name, part).uniform(size) - 1) * bound
            for part, size in sizes.items()
        }

    def gated(self, params: Params, x: Tensor) -> Tensor:
        """What inputs [n, D] add, [n, H]; all steps of a sequence at once."""
        return F.linear(x, params[f"{self.name}.inputs"], params[f"{self.name}.bias"])

    def step(
        self, params: Params, gated: Tensor, fed_back: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        """h [n, H] of :meth:`gated` [n, H] and what was read [n, R]; the cell as it is."""
        return (gated + F.linear(fed_back, params[f"{self.name}.recurrent"])).tanh(), cell


@dataclass(frozen=True)
class Past:
    """What a sequence has left, of B sequences.

    Attributes:
        hidden: [B, H], of the controller; cell: [B, H], its state, [B, 1] where it has none.
        read: [B, R W], of the memory.
        state: of the memory.
    """

    hidden: Tensor
    cell: Tensor
    read: Tensor
    state: State

    @property
    def known(self) -> Tensor:
        """What the last place is known by, [B, H + R W]."""
        return torch.cat([self.hidden, self.read], 1)


@dataclass(frozen=True)
class Recurrent:
    """A controller and the memory that it writes to and reads from."""

    controller: LSTM | FeedForward
    memory: Memory

    @property
    def outputs(self) -> int:
        """H + R W, numbers that a place is known by."""
        return self.controller.units + self.memory.reads

    def init(self, key: Key) -> Params:
        """Those of both."""
        return {**self.controller.init(key), **self.memory.init(key)}

    def start(self, like: Tensor) -> Past:
        """Before the first place, of one sequence; in the type of ``like``."""
        stateful = isinstance(self.controller, LSTM)
        sizes = (self.controller.units, self.controller.units if stateful else 1, self.memory.reads)
        hidden, cell, read = (like.new_zeros(1, size) for size in sizes)
        return Past(hidden, cell, read, self.memory.start(like))

    def step(self, params: Params, gated: Tensor, past: Past) -> Past:
        """One place more.

        Args:
            gated: [B, ...], see :meth:`LSTM.gated`.
            past: of as many sequences, or of the one that all of them go on from.
        """
        stateful = isinstance(self.controller, LSTM)
        back = (past.known if stateful else past.read).expand(len(gated), -1)
        hidden, cell = self.controller.step(params, gated, back, past.cell)
        read, state = self.memory.step(params, hidden, past.state)
        return Past(hidden, cell, read, state)

    def last(self, params: Params, x: Tensor, past: Past) -> Tensor:
        """What the next places x [B, D] of B sequences are known by, [B, H + R W]."""
        return self.step(params, self.controller.gated(params, x), past).known

    def whole(self, params: Params, x: Tensor) -> tuple[Tensor, Past]:
        """What the places of a sequence x [T, D] are known by, [T, H + R W], and what is left."""
        past, found = self.start(x), []
        gated = self.controller.gated(params, x)
        for place in range(len(x)):
            past = self.step(params, gated[place : place + 1], past)
            found.append(past.known)
        return torch.cat(found), past
