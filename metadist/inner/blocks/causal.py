"""Blocks over sequences: what stands at a place depends on this place and those before it alone.

A block adds numbers to what is already known of each place, so that a network of such blocks has at
each place all that any of them has found. Many sequences may share their beginning and differ in
their last place, as those of a task's queries do: the beginning is then computed once, ``whole``,
and each end by itself, ``last``, which gives what ``whole`` gives of each sequence.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metadist.inner.blocks.linear import Linear
from metadist.keys import Key
from metadist.tasks import Params


@dataclass(frozen=True)
class CausalBlock(ABC):
    """What adds to the places of a sequence.

    Attributes:
        name: its parameters begin with ``<name>.``.
        inputs: C, numbers of a place before.
    """

    name: str
    inputs: int

    @property
    @abstractmethod
    def adds(self) -> int:
        """A, numbers of a place that it adds."""

    @abstractmethod
    def init(self, key: Key) -> Params:
        """Fresh parameters."""

    @abstractmethod
    def whole(self, params: Params, x: Tensor) -> Tensor:
        """What it adds [T, A] to the places of a sequence x [T, C]."""

    @abstractmethod
    def last(self, params: Params, past: Tensor, x: Tensor) -> Tensor:
        """What it adds [Q, A] to the last places x [Q, C] of Q sequences that begin with past
        [S, C], S >= 1."""


@dataclass(frozen=True)
class CausalConvolution:
    """Of width two: W x(t) + V x(t - dilation) + b, where V meets zeros before the first place.

    Attributes:
        name: its parameters begin with ``<name>.here`` (W, b) and ``<name>.before`` (V).
        inputs, outputs: channels before and after.
        dilation: how many places lie between the two, and one more.
    """

    name: str
    inputs: int
    outputs: int
    dilation: int = 1

    @property
    def _here(self) -> Linear:
        return Linear(f"{self.name}.here", self.inputs, self.outputs)

    @property
    def _before(self) -> Linear:
        return Linear(f"{self.name}.before", self.inputs, self.outputs, bias=False)

    def init(self, key: Key) -> Params:
        """Uniform in +-1/sqrt(2 C), as torch's convolutions of this width."""
        drawn = {**self._here.init(key), **self._before.init(key)}
        return {name: p / math.sqrt(2.0) for name, p in drawn.items()}

    def whole(self, params: Params, x: Tensor) -> Tensor:
        """[T, outputs] of a sequence x [T, C]."""
        earlier = torch.cat([x.new_zeros(self.dilation, x.shape[1]), x])[: len(x)]
        return self._here(params, x) + self._before(params, earlier)

    def last(self, params: Params, past: Tensor, x: Tensor) -> Tensor:
        """[Q, outputs] at the last places x [Q, C] of sequences that begin with past [S, C]."""
        here = self._here(params, x)
        if self.dilation > len(past):
            return here
        return here + self._before(params, past[len(past) - self.dilation])


@dataclass(frozen=True)
class DenseBlock(CausalBlock):
    """tanh of a causal convolution times the sigmoid of another.

    van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, equation 2; Mishra et
    al., "A Simple Neural Attentive Meta-Learner", ICLR 2018, figure 2 a.

    Attributes:
        filters: A, of each convolution.
        dilation: of both.
    """

    filters: int
    dilation: int

    @property
    def adds(self) -> int:
        return self.filters

    def _convolutions(self) -> tuple[CausalConvolution, CausalConvolution]:
        value, gate = (
            CausalConvolution(f"{self.name}.{part}", self.inputs, self.filters, self.dilation)
            for part in ("value", "gate")
        )
        return value, gate

    def init(self, key: Key) -> Params:
        """Those of both convolutions."""
        return {n: p for one in self._convolutions() for n, p in one.init(key).items()}

    def whole(self, params: Params, x: Tensor) -> Tensor:
        value, gate = (one.whole(params, x) for one in self._convolutions())
        return value.tanh() * gate.sigmoid()

    def last(self, params: Params, past: Tensor, x: Tensor) -> Tensor:
        value, gate = (one.last(params, past, x) for one in self._convolutions())
        return value.tanh() * gate.sigmoid()


@dataclass(frozen=True)
class AttentionBlock(CausalBlock):
    """What a place reads of itself and those before it, by keys and queries of size K.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, equation 1, with one head; Mishra et
    al., 2018, figure 2 c. Parameters: ``<name>.query``, ``<name>.key`` and ``<name>.value``.

    Attributes:
        keys: K.
        values: A, numbers that are read.
    """

    keys: int
    values: int

    @property
    def adds(self) -> int:
        return self.values

    def _parts(self) -> tuple[Linear, Linear, Linear]:
        sizes = {"query": self.keys, "key": self.keys, "value": self.values}
        query, key, value = (Linear(f"{self.name}.{n}", self.inputs, s) for n, s in sizes.items())
        return query, key, value

    def init(self, key: Key) -> Params:
        """Those of the three linear maps."""
        return {n: p for part in self._parts() for n, p in part.init(key).items()}

    def whole(self, params: Params, x: Tensor) -> Tensor:
        query, key, value = (part(params, x) for part in self._parts())
        later = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).triu(1)
        scores = (query @ key.T / math.sqrt(self.keys)).masked_fill(later, float("-inf"))
        return scores.softmax(1) @ value

    def weights(self, params: Params, past: Tensor, x: Tensor) -> Tensor:
        """How much of each place, [Q, S + 1], the last places x [Q, C] read of the places past
        [S, C] and, at the end, of themselves."""
        query, key, _ = self._parts()
        asked = query(params, x)
        own = (asked * key(params, x)).sum(1, keepdim=True)
        scores = torch.cat([asked @ key(params, past).T, own], 1) / math.sqrt(self.keys)
        return scores.softmax(1)

    def last(self, params: Params, past: Tensor, x: Tensor) -> Tensor:
        weights, (_, _, value) = self.weights(params, past, x), self._parts()
        return weights[:, :-1] @ value(params, past) + weights[:, -1:] * value(params, x)


@dataclass(frozen=True)
class CausalNetwork:
    """Blocks one after the other, each of which adds to what those before it have found.

    Attributes:
        blocks: each takes the numbers of a place that the ones before it leave.
    """

    blocks: tuple[CausalBlock, ...]

    @cached_property
    def outputs(self) -> int:
        """Numbers of a place after all blocks."""
        return self.blocks[-1].inputs + self.blocks[-1].adds

    def init(self, key: Key) -> Params:
        """Those of all blocks."""
        return {n: p for block in self.blocks for n, p in block.init(key).items()}

    def whole(self, params: Params, x: Tensor) -> Tensor:
        """The places [T, outputs] of a sequence x [T, C] after all blocks."""
        for block in self.blocks:
            x = torch.cat([x, block.whole(params, x)], 1)
        return x

    def last(self, params: Params, past: Tensor, x: Tensor) -> Tensor:
        """The last places [Q, outputs] of Q sequences.

        Args:
            past: [S, outputs], :meth:`whole` of the places that they share; of these a block's
                inputs are the first numbers.
            x: [Q, C], their last places.
        """
        for block in self.blocks:
            x = torch.cat([x, block.last(params, past[:, : block.inputs], x)], 1)
        return x

    def attention(self, params: Params, past: Tensor, x: Tensor) -> dict[str, Tensor]:
        """How much of each place, [Q, S + 1], each attention reads in :meth:`last`, by its name."""
        found: dict[str, Tensor] = {}
        for block in self.blocks:
            own = past[:, : block.inputs]
            if isinstance(block, AttentionBlock):
                found[block.name] = block.weights(params, own, x)
            x = torch.cat([x, block.last(params, own, x)], 1)
        return found


def temporal(name: str, inputs: int, filters: int, layers: int) -> Sequence[CausalBlock]:
    """A temporal convolution: dense blocks whose dilation is 1, 2, 4 and so on.

    After ``layers`` of them a place has seen itself and 2^layers - 1 places before it (Mishra et
    al., 2018, figure 2 b).
    """
    return [
        DenseBlock(f"{name}.{layer}", inputs + layer * filters, filters, 2**layer)
        for layer in range(layers)
    ]
