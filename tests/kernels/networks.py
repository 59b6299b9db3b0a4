"""Networks with kernels and without, and one pass of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metadist import backbones, objectives
from metadist.backbones import Backbone, Norm
from metadist.kernels.library import Library
from metadist.keys import Key
from metadist.tasks import Examples, Params, Prediction, TaskShape
from tests.numerics.reference import distance

SCALE = 3.0


@dataclass(frozen=True)
class Pair:
    """A network, computed by torch and by kernels, with parameters away from any special point."""

    network: Backbone
    kernels: Backbone
    shape: TaskShape
    examples: Examples
    params: Params

    @classmethod
    def make(
        cls,
        kernels: Library,
        name: str,
        options: Mapping[str, Any],
        shape: TaskShape,
        n: int,
        dtype: torch.dtype = torch.float64,
    ) -> Pair:
        network = backbones.build(name, dict(options), shape)
        key = Key.of("pair", name, n)
        params = {
            name: (p.double() + 0.1 * key.fold(name).normal(p.shape, torch.float64)).to(dtype)
            for name, p in network.init(key).items()
        }
        x = key.fold("x").uniform((n, *shape.inputs), torch.float64).to(dtype)
        values = key.fold("y").normal((n, shape.outputs), torch.float64).to(dtype)
        y = torch.arange(n) % shape.ways if shape.ways else values
        fused = network.with_kernels(kernels)
        assert fused is not network
        return cls(network, fused, shape, Examples(x, y), params)

    @property
    def objective(self) -> objectives.Objective:
        return objectives.build("", {}, self.shape)

    @property
    def norm(self) -> Norm:
        return Norm("batch" if self.network.norm_layers else "off", record=True)

    @cached_property
    def along(self) -> Params:
        """A direction."""
        key = Key.of("along")
        return {n: key.fold(n).normal(p.shape, torch.float64).to(p) for n, p in self.params.items()}

    def leaves(self) -> Params:
        return {name: p.clone().requires_grad_() for name, p in self.params.items()}

    def tape(self, leaves: Params) -> tuple[Tensor, backbones.Output]:
        """Loss and pass of torch."""
        passed = self.network.forward(leaves, self.examples.x, self.norm)
        return SCALE * self.objective.loss(Prediction(passed.value), self.examples), passed

    def fused(self, leaves: Params, wrt: tuple[str, ...]) -> tuple[Tensor, Params, Any]:
        """Loss, gradients and statistics of the kernels."""
        found = self.kernels.loss_gradient(
            leaves, wrt, self.examples, self.norm, self.objective, SCALE
        )
        assert found is not None
        return found

    def second(self, loss: Tensor, gradients: Params, leaves: Params) -> Params:
        """Derivative of what a learner might make of loss and gradients."""
        made = 0.7 * loss + whole(g * self.along[n] for n, g in gradients.items())
        found = torch.autograd.grad(made, [*leaves.values()], materialize_grads=True)
        return dict(zip(leaves, found, strict=True))


def whole(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of all their numbers."""
    return torch.stack([tensor.sum() for tensor in tensors]).sum()


def gradient(value: Tensor, leaves: Params, *, create_graph: bool = False) -> Params:
    """Of a scalar with respect to leaves."""
    found = torch.autograd.grad(
        value, [*leaves.values()], create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(leaves, found, strict=True))


def detached(tensors: Params) -> Params:
    return {name: tensor.detach() for name, tensor in tensors.items()}


def check(pair: Pair, close: float, wrt: tuple[str, ...] | None = None) -> None:
    """Loss, gradients, statistics and second derivative of the kernels are the tape's."""
    wrt = wrt or tuple(pair.params)
    leaves = pair.leaves()
    wanted, passed = pair.tape(leaves)
    adapted = {name: leaves[name] for name in wrt}
    wanted_gradients = gradient(wanted, adapted, create_graph=True)
    wanted_second = pair.second(wanted, wanted_gradients, leaves)
    leaves = pair.leaves()
    loss, gradients, statistics = pair.fused(leaves, wrt)
    assert distance({"": loss.detach()}, {"": wanted.detach()}) <= close
    assert distance(detached(gradients), detached(wanted_gradients)) <= close
    assert set(statistics) == set(passed.statistics)
    for name, moments in passed.statistics.items():
        for got, moment in zip(statistics[name], moments, strict=True):
            assert distance({"": got}, {"": moment.detach()}) <= close
    assert distance(pair.second(loss, gradients, leaves), wanted_second) <= close
