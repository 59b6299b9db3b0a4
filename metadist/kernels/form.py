"""How the kernels store parameters: channels last, in whole vectors, what is beyond them zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Form:
    """One parameter's.

    Attributes:
        shape: as torch has it.
        ordered: shape in the kernels' order.
        stored: the same in whole vectors; what is beyond ``ordered`` is zero.
        order, restore: between torch's order and the kernels', without a copy where strides allow.
    """

    shape: tuple[int, ...]
    ordered: tuple[int, ...]
    stored: tuple[int, ...]
    order: Callable[[Tensor], Tensor] = _as_it_is
    restore: Callable[[Tensor], Tensor] = _as_it_is

    @cached_property
    def count(self) -> int:
        """Numbers that are stored."""
        return prod(self.stored)

    @cached_property
    def _whole(self) -> bool:
        return self.ordered == self.stored

    @cached_property
    def strides(self) -> tuple[int, ...] | None:
        """Of a view of what is stored as torch has it; None if torch's order is a copy."""
        stored = torch.empty(self.stored)
        seen = self.restore(self._inside(stored))
        return seen.stride() if seen.data_ptr() == stored.data_ptr() else None

    def to_kernel(self, tensor: Tensor) -> Tensor:
        """Stored; the tensor's own memory where that is so already.

        Raises:
            ValueError: it has another shape.
        """
        if tensor.shape != self.shape:
            raise ValueError(f"kernels: {self.shape} is needed, got {tuple(tensor.shape)}")
        ordered = self.order(tensor)
        if self._whole:
            return ordered.contiguous()
        stored = ordered.new_zeros(self.stored)
        self._inside(stored).copy_(ordered)
        return stored

    def from_kernel(self, flat: Tensor) -> Tensor:
        """As torch has it, a view where strides allow, of what is stored."""
        stored = flat.view(self.stored)
        return self.restore(stored if self._whole else self._inside(stored))

    def _inside(self, stored: Tensor) -> Tensor:
        for axis, (size, whole) in enumerate(zip(self.ordered, self.stored, strict=True)):
            stored = stored.narrow(axis, 0, size) if size != whole else stored
        return stored


def whole(channels: int, lanes: int) -> int:
    """Channels in whole vectors."""
    return -(-channels // lanes) * lanes


def vector(channels: int, lanes: int) -> Form:
    """Of one number for each channel [C]."""
    return Form((channels,), (channels,), (whole(channels, lanes),))


def convolution(inputs: int, filters: int, lanes: int, *, first: bool) -> Form:
    """Of weights [Co, Ci, 3, 3]: [3, 3, Ci, Co]; of the first layer Ci is not in whole vectors."""
    return Form(
        (filters, inputs, 3, 3),
        (3, 3, inputs, filters),
        (3, 3, inputs if first else whole(inputs, lanes), whole(filters, lanes)),
        lambda weights: weights.permute(2, 3, 1, 0),
        lambda stored: stored.permute(3, 2, 0, 1),
    )


def linear(inputs: int, units: int, lanes: int, *, first: bool) -> Form:
    """Of weights [units, inputs] of a hidden layer: [inputs, units]."""
    return Form(
        (units, inputs),
        (inputs, units),
        (inputs if first else whole(inputs, lanes), whole(units, lanes)),
        Tensor.t,
        Tensor.t,
    )


def head(outputs: int, positions: int, channels: int, lanes: int) -> Form:
    """Of weights [N, C * positions] of the last layer: [N, positions, C]."""
    stored = (outputs, positions, whole(channels, lanes))
    torch_shape = (outputs, channels * positions)
    if positions == 1:
        return Form(torch_shape, torch_shape, (outputs, stored[2]))
    return Form(
        torch_shape,
        (outputs, positions, channels),
        stored,
        lambda weights: weights.reshape(outputs, channels, positions).transpose(1, 2),
        lambda kept: kept.transpose(1, 2).reshape(torch_shape),
    )


def plain(size: int) -> Form:
    """Of a vector [N] that is stored as it is."""
    return Form((size,), (size,), (size,))
