"""A network as the kernels know it, and what a pass of one size through it needs."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from metadist.kernels import form
from metadist.kernels.form import Form
from metadist.kernels.library import SUFFIXES, Library, Shape
from metadist.kernels.plan import Plan

Objective = Literal["cross_entropy", "squared_error"]
Statistics = dict[str, tuple[Tensor, Tensor]]

#: ``MOST_LAYERS`` of ``source/shape.h``.
MOST_LAYERS = 16
#: Weight, scale and shift of a layer.
OF_LAYER = 3


@dataclass(frozen=True)
class Network:
    """Blocks of convolution, normalisation and ReLU, or linear layers, and a linear head.

    Attributes:
        kind: ``blocks`` or ``layers``.
        names: of the parameters: weight, scale and shift of each layer, in this order (of linear
            layers the shift is the bias), then the head's weight and bias; empty where it has none.
        norms: of the normalisation layers.
        channels: of an input, or its numbers.
        units: filters of each block or units of each layer.
        outputs: of the head.
    """

    library: Library
    kind: Literal["blocks", "layers"]
    names: tuple[str, ...]
    norms: tuple[str, ...]
    channels: int
    depth: int
    units: int
    outputs: int
    stride: int = 1
    pool: bool = False
    flatten: bool = False
    activation: Literal["relu", "tanh"] = "relu"
    epsilon: float = 0.0

    @cached_property
    def _plans(self) -> dict[tuple[object, ...], Plan]:
        return {}

    def plan(
        self,
        x: Tensor,
        keep: int,
        lowest: int = 0,
        objective: Objective = "cross_entropy",
        scale: float = 1.0,
        head: bool = True,
    ) -> Plan:
        """What a pass over examples [n, ...] needs.

        Args:
            keep: for how many derivatives it is kept, 0 to 2.
            lowest: the first layer whose gradient is wanted.
        """
        key = (x.dtype, x.shape, keep, lowest, objective, scale, head)
        if key not in self._plans:
            self._plans[key] = self._planned(x, keep, lowest, objective, scale, head)
        return self._plans[key]

    def _planned(
        self, x: Tensor, keep: int, lowest: int, objective: Objective, scale: float, head: bool
    ) -> Plan:
        height, width = (x.shape[2], x.shape[3]) if self.kind == "blocks" else (1, 1)
        shape = Shape(
            kind=int(self.kind == "layers"),
            examples=len(x),
            channels=self.channels,
            height=height,
            width=width,
            depth=self.depth,
            units=self.units,
            stride=self.stride,
            pool=int(self.pool),
            flatten=int(self.flatten),
            activation=int(self.activation == "tanh"),
            outputs=self.outputs if head else 0,
            objective=int(objective == "squared_error"),
            keep=keep,
            lowest=lowest,
            epsilon=self.epsilon,
            scale=scale,
        )
        sizes = (ctypes.c_int64 * 4)()
        self.library.function("sizes", x.dtype)(shape, sizes)
        state, scratch, scratch2, features = sizes
        forms = self._forms(x.dtype, features)
        degenerate = bool(self.norms) and len(x) * self._last_positions(height, width) == 1
        return Plan(x.dtype, shape, state, scratch, scratch2, features, forms, degenerate)

    def _last_positions(self, height: int, width: int) -> int:
        """Positions that the last block normalises over."""
        for layer in range(self.depth):
            if self.pool and layer:
                height, width = height // 2, width // 2
            height, width = -(-height // self.stride), -(-width // self.stride)
        return height * width

    def _forms(self, dtype: torch.dtype, features: int) -> tuple[Form, ...]:
        lanes = self.library.lanes(dtype)
        forms: list[Form] = []
        for weight in self._weights(lanes):
            forms += [weight, *[form.vector(self.units, lanes)] * 2]
        positions = features // form.whole(self.units, lanes)
        forms.append(form.head(self.outputs, positions, self.units, lanes))
        forms.append(form.plain(self.outputs))
        return tuple(forms)

    def known(self, params: Mapping[str, Tensor], x: Tensor, *, head: bool = True) -> bool:
        """Whether the kernels compute a pass over examples [n, ...] with these parameters.

        They do if all is real numbers of one type in the CPU's memory, x is a constant, and there
        is more than one value per channel to normalise.
        """
        if x.dtype not in SUFFIXES or not x.is_cpu or self.depth > MOST_LAYERS or not len(x):
            return False
        if x.requires_grad and torch.is_grad_enabled():
            return False
        if self.kind == "blocks" and (x.dim() != 4 or x.shape[1] != self.channels):
            return False
        if self.kind == "layers" and x.numel() != len(x) * self.channels:
            return False
        plan = self.plan(x, 0, head=head)
        if plan.degenerate:
            return False
        for place, name, one in self._expected(plan, head):
            p = params.get(name)
            if p is None:
                if place not in self._optional:
                    return False
            elif p.dtype is not x.dtype or p.shape != one.shape or not p.is_cpu:
                return False
        return True

    def _expected(self, plan: Plan, head: bool) -> Iterator[tuple[int, str, Form]]:
        names = self.names if head else self.names[: self.depth * OF_LAYER]
        return zip(range(len(names)), names, plan.forms, strict=False)

    @cached_property
    def _optional(self) -> frozenset[int]:
        """Places of parameters that may be missing: scale and shift, or a linear layer's scale."""
        scales = range(1, self.depth * OF_LAYER, OF_LAYER)
        return frozenset(p for s in scales for p in ((s, s + 1) if self.kind == "blocks" else (s,)))

    def arranged(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same numbers, in memory as the kernels want them, so that passes need not copy them.

        What has the shape of a weight is arranged as one: step sizes, say.
        """
        lanes = self.library.lanes
        forms = {
            one.shape: one
            for dtype in {p.dtype for p in params.values()} & SUFFIXES.keys()
            for one in self._weights(lanes(dtype))
            if one.ordered == one.stored
        }
        return {
            name: forms[p.shape].restore(forms[p.shape].order(p).contiguous())
            if p.shape in forms and p.is_cpu
            else p
            for name, p in params.items()
        }

    def _weights(self, lanes: int) -> list[Form]:
        """Of the layers."""
        weight = form.convolution if self.kind == "blocks" else form.linear
        inputs = (self.channels, *[self.units] * (self.depth - 1))
        return [
            weight(size, self.units, lanes, first=layer == 0) for layer, size in enumerate(inputs)
        ]

    def tensors(self, params: Mapping[str, Tensor], *, head: bool = True) -> list[Tensor | None]:
        """Parameters in the order of ``names``; None where the network has none."""
        found = [params.get(name) for name in self.names]
        return found if head else [*found[:-2], None, None]

    def lowest(self, wanted: Sequence[bool]) -> int:
        """The first layer of which anything is wanted; ``depth`` if that is the head alone."""
        reached = (place // OF_LAYER for place, want in enumerate(wanted) if want)
        return min(reached, default=self.depth)

    def features(self, stored: Tensor) -> Tensor:
        """Features [n, D] in torch's order, of those that the kernels give, [n, positions * C]."""
        n, channels = len(stored), form.whole(self.units, self.library.lanes(stored.dtype))
        each = stored.view(n, -1, channels)[:, :, : self.units]
        return each.transpose(1, 2).reshape(n, -1)

    def statistics(self, measured: Tensor | None) -> Statistics:
        """Mean and biased variance [C] of each normalisation layer, of [depth, 2, C]."""
        if measured is None:
            return {}
        return {
            name: (of[0, : self.units], of[1, : self.units])
            for name, of in zip(self.norms, measured, strict=True)
        }
