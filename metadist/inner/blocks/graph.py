"""Blocks over graphs: every vertex hears of all others, by how much they differ.

Graphs of a batch have the same number of vertices V; x [G, V, F] are the numbers of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.backbones import Norm, Statistics, normalise
from metadist.inner.blocks.linear import Linear
from metadist.keys import Key
from metadist.tasks import Params

#: Slope of leaky ReLUs below zero, torch's.
SLOPE = 0.01


@dataclass(frozen=True)
class NormalisedLinear:
    """A linear map, normalisation over all rows, and a leaky ReLU.

    Attributes:
        linear: its name is that of the block; normalisation is ``<name>.norm``.
    """

    linear: Linear

    @property
    def layer(self) -> str:
        """Name of the normalisation layer."""
        return f"{self.linear.name}.norm"

    def init(self, key: Key) -> Params:
        """Those of the map, unit scales and zero shifts."""
        size = self.linear.outputs
        norm = {"scale": torch.ones(size), "shift": torch.zeros(size)}
        return {**self.linear.init(key), **{f"{self.layer}.{n}": p for n, p in norm.items()}}

    def __call__(self, params: Params, x: Tensor, norm: Norm, out: Statistics) -> Tensor:
        """[..., outputs] of x [..., inputs]; statistics go to ``out`` if ``norm.record``."""
        rows = self.linear(params, x).flatten(0, -2)
        scale, shift = params[f"{self.layer}.scale"], params[f"{self.layer}.shift"]
        rows = normalise(rows, self.layer, scale, shift, norm, out)
        return F.leaky_relu(rows, SLOPE).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True)
class Adjacency:
    """How much a vertex hears of each other one, learned.

    A_ij = softmax_j(MLP(|x_i - x_j|)), without j = i (Garcia & Bruna, "Few-Shot Learning with Graph
    Neural Networks", ICLR 2018, equations 4 and 5). The MLP has four hidden layers; the released
    code normalises each.

    Attributes:
        name: its parameters begin with ``<name>.``.
        inputs: F.
        width: of the last two hidden layers; the first two are twice as wide.
    """

    name: str
    inputs: int
    width: int

    @property
    def hidden(self) -> tuple[NormalisedLinear, ...]:
        """The hidden layers."""
        sizes = [self.inputs, 2 * self.width, 2 * self.width, self.width, self.width]
        pairs = enumerate(pairwise(sizes), 1)
        return tuple(NormalisedLinear(Linear(f"{self.name}.{i}", *pair)) for i, pair in pairs)

    @property
    def _last(self) -> Linear:
        # A bias would add the same to every score of a row.
        return Linear(f"{self.name}.score", self.width, 1, bias=False)

    def init(self, key: Key) -> Params:
        """Those of the MLP."""
        hidden = (part.init(key) for part in self.hidden)
        return {n: p for some in (*hidden, self._last.init(key)) for n, p in some.items()}

    def __call__(self, params: Params, x: Tensor, norm: Norm, out: Statistics) -> Tensor:
        """A [G, V, V], whose rows sum to 1, for vertices x [G, V, F], V >= 2."""
        h = (x[:, :, None] - x[:, None]).abs()
        for layer in self.hidden:
            h = layer(params, h, norm, out)
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        scores = self._last(params, h)[..., 0].masked_fill(itself, float("-inf"))
        return scores.softmax(2)


def spread(adjacency: Tensor, x: Tensor) -> Tensor:
    """What a vertex knows and what it hears, [x, A x] [G, V, 2 F]: the generators are the identity
    and A [G, V, V] (Garcia & Bruna, 2018, equation 3)."""
    return torch.cat([x, adjacency @ x], 2)


@dataclass(frozen=True)
class GraphNetwork:
    """Graph convolutions, each of which adds to what those before it have found.

    x' = [x; leaky ReLU(norm(Theta [x, A x]))], with an A of its own for each (Garcia & Bruna, 2018,
    section 4.2); the last one puts out Theta [x, A x] alone.

    Attributes:
        name: its parameters begin with ``<name>.``.
        inputs: numbers of a vertex.
        outputs: of the last convolution.
        width: of adjacencies; a convolution adds half as many numbers.
        layers: convolutions before the last one.
    """

    name: str
    inputs: int
    outputs: int
    width: int
    layers: int = 2

    def size(self, layer: int) -> int:
        """Numbers of a vertex after so many convolutions."""
        return self.inputs + layer * (self.width // 2)

    def adjacency(self, layer: int) -> Adjacency:
        """That of the convolution after so many others."""
        return Adjacency(f"{self.name}.{layer}.edge", self.size(layer), self.width)

    def convolution(self, layer: int) -> NormalisedLinear:
        """Theta of a convolution that is not the last."""
        sizes = 2 * self.size(layer), self.width // 2
        return NormalisedLinear(Linear(f"{self.name}.{layer}.vertex", *sizes))

    @property
    def _last(self) -> Linear:
        sizes = 2 * self.size(self.layers), self.outputs
        return Linear(f"{self.name}.{self.layers}.vertex", *sizes)

    def _normalised(self) -> Iterator[NormalisedLinear]:
        for layer in range(self.layers + 1):
            yield from self.adjacency(layer).hidden
        yield from map(self.convolution, range(self.layers))

    @property
    def norm_layers(self) -> dict[str, int]:
        """Channels of each normalisation layer."""
        return {part.layer: part.linear.outputs for part in self._normalised()}

    def init(self, key: Key) -> Params:
        """Those of all convolutions and adjacencies."""
        edges = (self.adjacency(layer).init(key) for layer in range(self.layers + 1))
        vertices = (self.convolution(layer).init(key) for layer in range(self.layers))
        drawn = (*edges, *vertices, self._last.init(key))
        return {n: p for some in drawn for n, p in some.items()}

    def convolved(
        self, params: Params, x: Tensor, layer: int, norm: Norm, out: Statistics
    ) -> Tensor:
        """Vertices [G, V, F'] after the convolution that follows so many others, of x [G, V, F]."""
        adjacency = self.adjacency(layer)(params, x, norm, out)
        heard = spread(adjacency, x)
        return torch.cat([x, self.convolution(layer)(params, heard, norm, out)], 2)

    def last(self, params: Params, x: Tensor, norm: Norm, out: Statistics) -> Tensor:
        """Outputs [G, V, outputs] of vertices after all convolutions but the last."""
        adjacency = self.adjacency(self.layers)(params, x, norm, out)
        return self._last(params, spread(adjacency, x))
