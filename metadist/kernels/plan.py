"""What a pass of one size needs: how parameters are stored, and how much memory it takes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metadist.kernels.form import Form
from metadist.kernels.library import Shape, addresses

#: Where gradients begin in their memory: multiples of a cache line of float32.
LINE = 16


@dataclass(frozen=True)
class Plan:
    """A pass of n examples of one size, kept for so many derivatives.

    Attributes:
        shape: for C.
        state, scratch, scratch2, features: numbers of the memory that a pass and its derivatives
            need, and of an example's features as they are stored.
        forms: of the parameters, in the order of ``Network.names``.
        degenerate: whether a normalisation has one value per channel, whose variance is 0.
    """

    dtype: torch.dtype
    shape: Shape
    state: int
    scratch: int
    scratch2: int
    features: int
    forms: tuple[Form, ...]
    degenerate: bool

    @cached_property
    def results(self) -> int:
        """Numbers of what a pass returns of each example: outputs, or features without a head."""
        return int(self.shape.outputs) or self.features

    def empty(self, *size: int) -> Tensor:
        """Memory that is not set."""
        return torch.empty(size, dtype=self.dtype)

    def stored(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Parameters, or what has their shapes, as the kernels have them."""
        return [
            None if tensor is None else one.to_kernel(tensor)
            for one, tensor in zip(self.forms, tensors, strict=True)
        ]

    def pointers(self, stored: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
        """Where the kernels find them; null for None."""
        return addresses([None if tensor is None else tensor.data_ptr() for tensor in stored])

    @cached_property
    def _layouts(self) -> dict[tuple[bool, ...], Layout]:
        return {}

    def outcome(self, wanted: tuple[bool, ...]) -> Outcome:
        """Memory for what is wanted of each parameter."""
        if wanted not in self._layouts:
            self._layouts[wanted] = Layout.of(self.forms, wanted)
        layout = self._layouts[wanted]
        return Outcome(layout, self.empty(layout.size))


@dataclass(frozen=True)
class Place:
    """Where a gradient lies, and how it is seen as torch has it.

    Attributes:
        strides: of a view in torch's order; None: there is none, what is stored is copied.
    """

    form: Form
    begin: int
    strides: tuple[int, ...] | None

    def of(self, flat: Tensor) -> Tensor:
        """The gradient."""
        if self.strides is None:
            return self.form.from_kernel(flat.narrow(0, self.begin, self.form.count))
        return flat.as_strided(self.form.shape, self.strides, self.begin)


@dataclass(frozen=True)
class Layout:
    """How gradients of those parameters that are wanted lie in one piece of memory.

    Attributes:
        places: of each parameter's; None where it is not wanted.
        size: numbers of all.
    """

    places: tuple[Place | None, ...]
    size: int

    @classmethod
    def of(cls, forms: Sequence[Form], wanted: Sequence[bool]) -> Layout:
        """The gradients of those that are wanted, one behind the other."""
        places: list[Place | None] = []
        begin = 0
        for one, want in zip(forms, wanted, strict=True):
            places.append(Place(one, begin, one.strides) if want else None)
            begin += -(-one.count // LINE) * LINE if want else 0
        return cls(tuple(places), begin)


@dataclass(frozen=True)
class Outcome:
    """Gradients, to be written by C."""

    layout: Layout
    flat: Tensor

    @property
    def pointers(self) -> ctypes.Array[ctypes.c_void_p]:
        """Where each goes; null where it is not wanted."""
        start, size = self.flat.data_ptr(), self.flat.element_size()
        places = self.layout.places
        return addresses(
            [None if place is None else start + place.begin * size for place in places]
        )

    def tensors(self) -> list[Tensor | None]:
        """As torch has them."""
        return [None if place is None else place.of(self.flat) for place in self.layout.places]
