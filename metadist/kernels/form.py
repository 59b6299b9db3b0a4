"""How the kernels store parameters: channels last, in whole vectors, what is beyond them zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from torch import Tensor


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
    order: Callable[[Tensor], Tensor]
    restore: Callable[[Tensor], Tensor]

    @property
    def count(self) -> int:
        """Numbers that are stored."""
        return prod(self.stored)

    def to_kernel(self, tensor: Tensor) -> Tensor:
        """Stored; the tensor's own memory where that is so already."""
        ordered = self.order(tensor)
        if self.ordered == self.stored:
            return ordered.contiguous()
        stored = ordered.new_zeros(self.stored)
        self._inside(stored).copy_(ordered)
        return stored

    def from_kernel(self, stored: Tensor) -> Tensor:
        """As torch has it, a view where strides allow; ``stored`` may be flat."""
        return self.restore(self._inside(stored.view(self.stored)))

    def _inside(self, stored: Tensor) -> Tensor:
        for axis, (size, whole) in enumerate(zip(self.ordered, self.stored, strict=True)):
            if size != whole:
                stored = stored.narrow(axis, 0, size)
        return stored


def whole(channels: int, lanes: int) -> int:
    """Channels in whole vectors."""
    return -(-channels // lanes) * lanes


def vector(channels: int, lanes: int) -> Form:
    """Of one number for each channel [C]."""
    return Form(
        (channels,), (channels,), (whole(channels, lanes),), lambda t: t, lambda stored: stored
    )


def convolution(inputs: int, filters: int, lanes: int, *, first: bool) -> Form:
    """Of weights [Co, Ci, 3, 3]: [3, 3, Ci, Co]; the first layer's inputs stay as many as they are."""
    rows = inputs if first else whole(inputs, lanes)
    return Form(
        (filters, inputs, 3, 3),
        (3, 3, inputs, filters),
        (3, 3, rows, whole(filters, lanes)),
        lambda w: w.permute(2, 3, 1, 0),
        lambda stored: stored.permute(3, 2, 0, 1),
    )


def linear(inputs: int, units: int, lanes: int, *, first: bool) -> Form:
    """Of weights [units, inputs] of a hidden layer: [inputs, units]."""
    rows = inputs if first else whole(inputs, lanes)
    return Form(
        (units, inputs),
        (inputs, units),
        (rows, whole(units, lanes)),
        lambda w: w.t(),
        lambda stored: stored.t(),
    )


def head(outputs: int, positions: int, channels: int, lanes: int) -> Form:
    """Of weights [N, C * positions] of the last layer: [N, positions, C]."""
    return Form(
        (outputs, channels * positions),
        (outputs, positions, channels),
        (outputs, positions, whole(channels, lanes)),
        lambda w: w.reshape(outputs, channels, positions).transpose(1, 2),
        lambda stored: stored.transpose(1, 2).reshape(outputs, channels * positions),
    )


def plain(size: int) -> Form:
    """Of a vector [N] that is stored as it is."""
    return Form((size,), (size,), (size,), lambda t: t, lambda stored: stored)
