"""External memory that a controller writes to and reads from, one step after the other.

A memory has M rows of W numbers; R heads read from it by weights over the rows. Each step writes
first and then reads what was written, by what the controller puts out, h:

- :class:`LeastRecentlyUsed`: Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks",
  ICML 2016, section 3.2: what was read last is written to again, or what was used least.
- :class:`NeuralTuring`: Graves, Wayne & Danihelka, "Neural Turing Machines", 2014, section 3: rows
  are found by content and by their place beside those found before.

Nothing is changed in place, so that gradients go through all steps, any number of times. Many
sequences may go on from one state: it then has one row (B = 1), and the step has theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.inner.blocks.linear import Linear
from metadist.keys import Key
from metadist.tasks import Params

#: What memory begins with (released re-implementations: 1e-6).
EMPTY = 1e-6
#: Under the roots of cosines, so that rows of zeros have a similarity and a derivative.
SMALL = 1e-6
#: A weight of NTM's that is sharpened is at least so much more than 0.
LEAST = 1e-12


@dataclass(frozen=True)
class State:
    """What a step leaves to the next, of B sequences.

    Attributes:
        memory: [B, M, W].
        weights: [B, heads, M], of each row by each head at its last turn.
        usage: [B, M], how much a row was used of late, a constant; only of
            :class:`LeastRecentlyUsed`.
    """

    memory: Tensor
    weights: Tensor
    usage: Tensor | None = None


@dataclass(frozen=True)
class Memory(ABC):
    """How rows are found, written and read.

    Attributes:
        name: its parameters are those of a linear map of h, ``<name>.heads``.
        inputs: H, numbers of h.
        rows, width, heads: M, W and R.
    """

    name: str
    inputs: int
    rows: int
    width: int
    heads: int

    @property
    @abstractmethod
    def sizes(self) -> dict[str, tuple[int, int]]:
        """What is made of h: of each part, for how many heads, and numbers of each."""

    @abstractmethod
    def start(self, like: Tensor) -> State:
        """Before the first step, of one sequence; in the type of ``like``."""

    @abstractmethod
    def step(self, params: Params, h: Tensor, state: State) -> tuple[Tensor, State]:
        """What is read [B, R W] in a step, and what it leaves.

        Args:
            h: [B, H].
            state: of as many sequences, or of the one that all of them go on from.
        """

    @cached_property
    def linear(self) -> Linear:
        """The map of h."""
        outputs = sum(heads * size for heads, size in self.sizes.values())
        return Linear(f"{self.name}.heads", self.inputs, outputs)

    @property
    def reads(self) -> int:
        """R W, numbers that a step reads."""
        return self.heads * self.width

    def init(self, key: Key) -> Params:
        """Those of the map of h."""
        return self.linear.init(key)

    def parts(self, params: Params, h: Tensor) -> dict[str, Tensor]:
        """What is made of h [B, H], each [B, heads, numbers]."""
        whole, found, start = self.linear(params, h), {}, 0
        for name, (heads, size) in self.sizes.items():
            part = whole[:, start : start + heads * size]
            found[name] = part.reshape(len(h), heads, size)
            start += heads * size
        return found

    def empty(self, like: Tensor, heads: int) -> State:
        """Equal rows, of which all heads are at the first."""
        memory = like.new_zeros(1, self.rows, self.width) + EMPTY
        first = self.places(like).eq(0).to(like.dtype)
        return State(memory, first.expand(1, heads, self.rows))

    def places(self, like: Tensor) -> Tensor:
        """Numbers of the rows, int64 [M]."""
        return torch.arange(self.rows, device=like.device)


def cosines(keys: Tensor, memory: Tensor) -> Tensor:
    """Cosine [B, R, M] of keys [B, R, W] with rows of a memory [B, M, W]; 0 of a row of zeros."""
    lengths = keys.square().sum(2, keepdim=True) * memory.square().sum(2)[:, None]
    return keys @ memory.transpose(1, 2) / (lengths + SMALL).sqrt()


@dataclass(frozen=True)
class LeastRecentlyUsed(Memory):
    """Writes to what was read last, or to what was used least (LRUA).

    Of each head a key k = tanh(W h), also what it writes, and a gate g = sigmoid(a):

        w^w = g w^r_{t-1} + (1 - g) w^lu_{t-1};    M_t = M_{t-1}, its least used row zero, + w^w k
        w^r = softmax of cos(k, M_t);              w^u = decay w^u_{t-1} + sum of w^r and w^w

    w^lu is 1 at the least used rows of w^u, as many as there are heads: each head has one of them,
    the first of them the least used (as released re-implementations have it).

    Attributes:
        decay: of usage (published: 0.95).
        separate: heads write a vector of their own in the place of the key (as released
            re-implementations).
        sharp: similarities are multiplied by a strength 1 + softplus(W h) of each head, as NTM's
            are; published: they are not, and a softmax of cosines over many rows is nearly even.
    """

    decay: float = 0.95
    separate: bool = False
    sharp: bool = False

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        found = {"key": (self.heads, self.width), "gate": (self.heads, 1)}
        if self.separate:
            found["written"] = (self.heads, self.width)
        if self.sharp:
            found["strength"] = (self.heads, 1)
        return found

    def start(self, like: Tensor) -> State:
        empty = self.empty(like, self.heads)
        return State(empty.memory, empty.weights, empty.weights[:, 0].detach())

    def step(self, params: Params, h: Tensor, state: State) -> tuple[Tensor, State]:
        parts, usage = self.parts(params, h), state.usage
        assert usage is not None
        keys = parts["key"].tanh()
        gate = parts["gate"].sigmoid()
        # Of equals the first. Rows that nothing told apart are equal but for rounding.
        least = usage.float().argsort(stable=True, dim=1)[:, : self.heads, None]
        unused = (least == self.places(h)).to(h.dtype)
        written = gate * state.weights + (1 - gate) * unused
        values = parts["written"].tanh() if self.separate else keys
        kept = state.memory * (1 - unused[:, 0])[:, :, None]
        memory = kept + written.transpose(1, 2) @ values
        similar = cosines(keys, memory)
        if self.sharp:
            similar = similar * (1 + F.softplus(parts["strength"]))
        weights = similar.softmax(2)
        used = self.decay * usage + (weights + written).detach().sum(1)
        return (weights @ memory).flatten(1), State(memory, weights, used)


@dataclass(frozen=True)
class NeuralTuring(Memory):
    """Finds rows by content and by place, and has a head that writes beside those that read (NTM).

    Of each head a key k = tanh(W h), its strength b, a gate g, shifts s over -1, 0 and 1, and a
    power c >= 1 (equations 5 to 9):

        w <- sharpen(shift(g softmax(b cos(k, M)) + (1 - g) w_{t-1}, s), c)

    The head that writes comes first, and erases e = sigmoid(W h) and adds a = tanh(W h):

        M_t = M_{t-1} (1 - w e) + w a
    """

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        every = self.heads + 1
        return {
            "key": (every, self.width),
            "strength": (every, 1),
            "gate": (every, 1),
            "shift": (every, 3),
            "power": (every, 1),
            "erased": (1, self.width),
            "added": (1, self.width),
        }

    def start(self, like: Tensor) -> State:
        return self.empty(like, self.heads + 1)

    def step(self, params: Params, h: Tensor, state: State) -> tuple[Tensor, State]:
        parts, memory = self.parts(params, h), state.memory
        first, others = ({n: part[:, rows] for n, part in parts.items()} for rows in _WRITES_READS)
        written = self._found(first, memory, state.weights[:, :1]).transpose(1, 2)
        memory = memory * (1 - written * parts["erased"].sigmoid())
        memory = memory + written * parts["added"].tanh()
        read = self._found(others, memory, state.weights[:, 1:])
        weights = torch.cat([written.transpose(1, 2), read], 1)
        return (read @ memory).flatten(1), State(memory, weights)

    @staticmethod
    def _found(parts: dict[str, Tensor], memory: Tensor, before: Tensor) -> Tensor:
        """Weights [B, heads, M] of some heads, by those before."""
        similar = cosines(parts["key"].tanh(), memory) * F.softplus(parts["strength"])
        gate = parts["gate"].sigmoid()
        found = gate * similar.softmax(2) + (1 - gate) * before
        back, stay, on = parts["shift"].softmax(2).chunk(3, 2)
        found = back * found.roll(-1, 2) + stay * found + on * found.roll(1, 2)
        power = (found + LEAST).pow(1 + F.softplus(parts["power"]))
        return power / power.sum(2, keepdim=True)


#: Which of NTM's heads write, and which read.
_WRITES_READS = slice(0, 1), slice(1, None)
