"""Single operations: the kernels' on tensors as torch has them, and slow ones in torch beside them.

Directions are marked with a 1, as in the source: x1 is the derivative of x along one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.kernels.form import whole
from metadist.kernels.library import Block, Library, address

Optional = Tensor | None


@dataclass(frozen=True)
class Operations:
    """The kernels' operations of one type, for images [n, C, H, W]."""

    kernels: Library
    dtype: torch.dtype

    def _call(self, name: str, block: Block, *tensors: Optional) -> None:
        pointers = [None if t is None else address(t, self.dtype, 0) for t in tensors]
        self.kernels.function(name, self.dtype)(block, *pointers)

    def wide(self, channels: int) -> int:
        return whole(channels, self.kernels.lanes(self.dtype))

    def last(self, x: Tensor) -> Tensor:
        """Channels last, in whole vectors, the rest zero."""
        return F.pad(x.permute(0, 2, 3, 1), (0, self.wide(x.shape[1]) - x.shape[1])).contiguous()

    def first(self, x: Tensor, channels: int) -> Tensor:
        """Back again."""
        return x[..., :channels].permute(0, 3, 1, 2)

    def weights(self, w: Tensor, *, bordered: bool = False) -> Tensor:
        """[3, 3, Ci, Co] in whole vectors."""
        inputs = 0 if bordered else self.wide(w.shape[1]) - w.shape[1]
        missing = (0, self.wide(w.shape[0]) - w.shape[0], 0, inputs)
        return F.pad(w.permute(2, 3, 1, 0), missing).contiguous()

    def vector(self, v: Optional) -> Optional:
        return None if v is None else F.pad(v, (0, self.wide(len(v)) - len(v)))

    def _convolution(self, x: tuple[int, ...], filters: int, stride: int, bordered: bool) -> Block:
        n, channels, height, width = x
        return Block(n, height, width, channels, filters, stride, int(bordered), 0, 0.0)

    def _input(self, x: Tensor, block: Block) -> Tensor:
        if not block.bordered:
            return self.last(x)
        n, c, h, w = x.shape
        stored = x.new_empty(n, h + 2, w + 2, c)
        self._call("border", block, x.contiguous(), stored)
        return stored

    def convolve(
        self,
        x: Tensor,
        w: Tensor,
        stride: int,
        *,
        bordered: bool,
        x1: Optional = None,
        w1: Optional = None,
    ) -> Tensor:
        """x * w, and x1 * w1 beside it."""
        block = self._convolution(tuple(x.shape), len(w), stride, bordered)
        size = [(s - 1) // stride + 1 for s in x.shape[2:]]
        y = x.new_empty(len(x), *size, self.wide(len(w)))
        second: tuple[Optional, Optional] = (None, None)
        if x1 is not None and w1 is not None:
            second = (self._input(x1, block), self.weights(w1, bordered=bordered))
        given = (self._input(x, block), self.weights(w, bordered=bordered))
        self._call("convolve", block, *given, *second, y)
        return self.first(y, len(w))

    def convolve_back(self, dy: Tensor, w: Tensor, inputs: tuple[int, ...], stride: int) -> Tensor:
        """dx of dy."""
        block = self._convolution(inputs, len(w), stride, False)
        wide = self.weights(w)
        turned = wide.new_empty(3, 3, wide.shape[3], wide.shape[2])
        transpose = self.kernels.function("transpose", self.dtype)
        transpose(9, wide.shape[2], wide.shape[3], wide.data_ptr(), turned.data_ptr())
        torch.testing.assert_close(turned, wide.transpose(2, 3), rtol=0, atol=0)
        dx = dy.new_empty(inputs[0], *inputs[2:], self.wide(inputs[1]))
        self._call("convolve_back", block, self.last(dy), turned, None, None, dx)
        return self.first(dx, inputs[1])

    def weight_gradient(self, x: Tensor, dy: Tensor, stride: int, *, bordered: bool) -> Tensor:
        """dw of x and dy."""
        filters, channels = dy.shape[1], x.shape[1]
        block = self._convolution(tuple(x.shape), filters, stride, bordered)
        rows = channels if bordered else self.wide(channels)
        dw = x.new_full((3, 3, rows, self.wide(filters)), torch.nan)
        self._call(
            "convolution_gradient", block, self._input(x, block), self.last(dy), None, None, dw
        )
        return dw[:, :, :channels, :filters].permute(3, 2, 0, 1)

    def norm(self, y: Tensor, gamma: Optional, beta: Optional, pool: bool) -> NormPass:
        return NormPass(self, y, gamma, beta, pool)


class NormPass:
    """Normalisation, ReLU and perhaps a pool of y [n, C, h, w], kept for its derivatives."""

    def __init__(
        self, of: Operations, y: Tensor, gamma: Optional, beta: Optional, pool: bool
    ) -> None:
        n, self.channels, height, width = y.shape
        self.of, wide = of, of.wide(self.channels)
        self.block = Block(n, height, width, 0, self.channels, 1, 0, int(pool), 1e-3)
        size = (height // 2, width // 2) if pool else (height, width)
        self.y, self.gamma, self.beta = of.last(y), of.vector(gamma), of.vector(beta)
        self.moments, self.variance = y.new_empty(6, wide), y.new_empty(wide)
        self.z = y.new_empty(n, *size, wide)
        of._call("norm", self.block, *self._given, self.z, self.variance)

    @property
    def _given(self) -> tuple[Optional, ...]:
        return self.y, self.gamma, self.beta, self.moments

    def out(self, *stored: Tensor) -> list[Tensor]:
        return [
            self.of.first(s, self.channels) if s.dim() == 4 else s[: self.channels] for s in stored
        ]

    def backward(self, dz: Tensor) -> list[Tensor]:
        """dy, dgamma, dbeta."""
        results = torch.empty_like(self.y), *self.y.new_empty(2, self.moments.shape[1])
        self.of._call("norm_backward", self.block, *self._given, self.of.last(dz), *results)
        return self.out(*results)

    def tangent(self, y1: Tensor, gamma1: Optional, beta1: Optional) -> Tensor:
        """z1."""
        z1 = torch.empty_like(self.z)
        along = self.of.last(y1), self.of.vector(gamma1), self.of.vector(beta1)
        self.of._call("norm_tangent", self.block, *self._given, *along, z1)
        return self.out(z1)[0]

    def tangent_backward(
        self, y1: Tensor, gamma1: Optional, beta1: Optional, dz: Tensor, dz1: Tensor
    ) -> list[Tensor]:
        """dy1, dgamma1, dbeta1; after backward() and tangent()."""
        results = torch.empty_like(self.y), *self.y.new_empty(2, self.moments.shape[1])
        along = self.of.last(y1), self.of.vector(gamma1), self.of.vector(beta1)
        upstream = self.of.last(dz), self.of.last(dz1)
        self.of._call(
            "norm_tangent_backward", self.block, *self._given, *along, *upstream, *results
        )
        return self.out(*results)


def norm_reference(y: Tensor, gamma: Optional, beta: Optional, pool: bool) -> Tensor:
    """The same, written from means."""
    mean = y.mean((0, 2, 3), keepdim=True)
    x = (y - mean) * ((y - mean).square().mean((0, 2, 3), keepdim=True) + 1e-3).rsqrt()
    if gamma is not None:
        x = x * gamma[:, None, None]
    if beta is not None:
        x = x + beta[:, None, None]
    z = F.relu(x)
    return F.max_pool2d(z, 2) if pool else z


def apart(got: Any, wanted: Tensor) -> float:
    """Largest difference, relative to the largest number that is wanted."""
    size = float(wanted.detach().abs().max())
    return float((got.detach() - wanted.detach()).abs().max()) / max(size, 1e-300)
