"""What the numbers should be: plain torch, written from the papers' equations.

Nothing here calls the code under test: networks, losses, adaptation and meta-gradients are written
a second time, normalisation from means and variances. The tolerances of all numerical tests stand
here too. Definitions of a family of algorithms stand in a file of their own,
``tests/numerics/<family>_reference.py``, which imports from here and ends in a dictionary
``DEFINITIONS`` (or ``PREDICTIONS``) of its own; ``tests/numerics/definitions.py`` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

#: Against a formula in closed form, relative.
CLOSED_FORM = 1e-12
#: Against an independently written program, relative.
EXACT = 1e-9
#: Against central differences with steps of EPS along unit directions, relative to the gradient.
DIFFERENCES = 1e-6
EPS = 1e-5
#: What counts as another gradient, relative.
CLEARLY_OTHER = 0.1
OTHER = 1e-3

Tensors = dict[str, Tensor]


def distance(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The largest relative L2 difference of a tensor.

    A tensor below a thousandth of the whole counts relative to that thousandth: the rounding of
    an exact zero is no difference.
    """
    assert set(got) == set(wanted)
    if all(torch.equal(got[n].double(), w.double()) for n, w in wanted.items()):
        return 0.0  # Even if all are zero, or there are none.
    whole = torch.stack([w.double().norm() for w in wanted.values()]).norm()
    return max(
        float(
            (got[n].double() - w.double()).norm() / torch.maximum(w.double().norm(), whole * 1e-3)
        )
        for n, w in wanted.items()
    )


def whole_distance(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The relative L2 difference of all tensors together."""
    names = sorted(wanted)
    a = torch.cat([got[n].double().reshape(-1) for n in names])
    b = torch.cat([wanted[n].double().reshape(-1) for n in names])
    return float((a - b).norm() / b.norm())


class Episode(NamedTuple):
    """One task, and in ``info`` what the algorithm needs to know beside the examples."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    info: Mapping[str, Tensor] = MappingProxyType({})


#: (mean, biased variance) by layer.
Moments = dict[str, tuple[Tensor, Tensor]]
#: Normalise by the batch, by given moments, or not at all.
Normalisation = Literal["batch", "off"] | Moments


class Network(Protocol):
    """Outputs, and the moments of what enters each normalisation layer."""

    def __call__(
        self, p: Tensors, x: Tensor, norm: Normalisation, step: int = 0
    ) -> tuple[Tensor, Moments]: ...


@dataclass(frozen=True)
class Net:
    """conv4, resnet12 or mlp as their docstrings describe them.

    ``<layer>.transform`` multiplies a layer's units or channels. Scales and shifts [R, C] have a
    row for each inner step; ``step`` says which. Other parameters are not looked at.
    """

    family: Literal["conv4", "resnet12", "mlp"]
    pool: bool = False
    flatten: bool = False
    tanh: bool = False
    epsilon: float = 1e-3
    halvings: int = 4

    def __call__(
        self, p: Tensors, x: Tensor, norm: Normalisation, step: int = 0
    ) -> tuple[Tensor, Moments]:
        """Outputs, and the moments of what enters each normalisation layer."""
        if self.family == "mlp":
            return self._mlp(p, x), {}
        h, moments = self.features(p, x, norm, step)
        h = h @ p["head.weight"].T + p["head.bias"]
        return _transformed(p, "head", h), moments

    def features(
        self, p: Tensors, x: Tensor, norm: Normalisation, step: int = 0
    ) -> tuple[Tensor, Moments]:
        """What enters the head, of parameters that may lack it (an mlp's must)."""
        if self.family == "mlp":
            return self._mlp(p, x, headless=True), {}
        body = self._conv4 if self.family == "conv4" else self._resnet12
        h, moments = body(p, x, norm, step)
        return h.reshape(len(h), -1) if self.flatten else h.mean(dim=(2, 3)), moments

    def _mlp(self, p: Tensors, x: Tensor, *, headless: bool = False) -> Tensor:
        h = x.reshape(len(x), -1)
        layers = sum(f"linear{i}.weight" in p for i in range(1, len(p) + 1))
        for layer in range(1, layers + 1):
            h = h @ p[f"linear{layer}.weight"].T + p[f"linear{layer}.bias"]
            h = _transformed(p, f"linear{layer}", h)
            if layer < layers or headless:
                h = h.tanh() if self.tanh else h * (h > 0)
        return h

    def _conv4(
        self, p: Tensors, x: Tensor, norm: Normalisation, step: int
    ) -> tuple[Tensor, Moments]:
        moments: Moments = {}
        h = x
        for block in range(1, 5):
            halved = block <= self.halvings
            stride = 2 if halved and not self.pool else 1
            h = torch.conv2d(h, p[f"conv{block}.weight"], stride=stride, padding=1)
            h = _transformed(p, f"conv{block}", h)
            scale, shift = (p.get(f"norm{block}.{what}") for what in ("scale", "shift"))
            h = self._normalised(h, f"norm{block}", scale, shift, norm, step, moments)
            h = h * (h > 0)
            if halved and self.pool:
                h = _pooled(h)
        return h, moments

    def _resnet12(
        self, p: Tensors, x: Tensor, norm: Normalisation, step: int
    ) -> tuple[Tensor, Moments]:
        moments: Moments = {}
        h = x
        for block in (f"blocks.{number}" for number in range(4)):

            def layer(h: Tensor, conv: str, norm_layer: str, block: str = block) -> Tensor:
                weight = p[f"{block}.{conv}.weight"]
                h = torch.conv2d(h, weight, padding=weight.shape[2] // 2)
                h = _transformed(p, f"{block}.{conv}", h)
                name = f"{block}.{norm_layer}"
                scale, shift = p[f"{name}.weight"], p[f"{name}.bias"]
                return self._normalised(h, name, scale, shift, norm, step, moments)

            shortcut = layer(h, "shortcut", "shortcut_norm")
            for number in (1, 2, 3):
                h = layer(h, f"conv{number}", f"norm{number}")
                h = h + shortcut if number == 3 else h
                h = torch.where(h > 0, h, 0.1 * h)
            h = _pooled(h)
        return h, moments

    def _normalised(
        self,
        h: Tensor,
        layer: str,
        scale: Tensor | None,
        shift: Tensor | None,
        norm: Normalisation,
        step: int,
        moments: Moments,
    ) -> Tensor:
        mean = h.mean(dim=(0, 2, 3))
        variance = ((h - mean[None, :, None, None]) ** 2).mean(dim=(0, 2, 3))
        moments[layer] = (mean, variance)
        if norm != "off":
            used = moments[layer] if norm == "batch" else norm[layer]
            h = h - used[0][None, :, None, None]
            h = h / torch.sqrt(used[1] + self.epsilon)[None, :, None, None]
        if scale is not None:
            h = h * _row(scale, step)[None, :, None, None]
        if shift is not None:
            h = h + _row(shift, step)[None, :, None, None]
        return h


def _transformed(p: Tensors, layer: str, h: Tensor) -> Tensor:
    """What a T-net makes of a layer's outputs [n, C, ...]."""
    transform = p.get(f"{layer}.transform")
    return h if transform is None else torch.einsum("nc...,dc->nd...", h, transform)


def _pooled(h: Tensor) -> Tensor:
    """The largest of each 2x2 positions; an odd row or column is left out."""
    rows, columns = h.shape[2] // 2, h.shape[3] // 2
    h = h[:, :, : 2 * rows, : 2 * columns]
    return h.reshape(len(h), -1, rows, 2, columns, 2).amax(dim=(3, 5))


def _row(values: Tensor, step: int) -> Tensor:
    """Scale or shift [C] of a step, the last row for all steps beyond it."""
    return values if values.dim() == 1 else values[min(step, len(values) - 1)]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood."""
    chosen = logits[torch.arange(len(labels)), labels]
    return (torch.logsumexp(logits, dim=1) - chosen).mean()


def squared_error(values: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples and dimensions."""
    return ((values - targets) ** 2).mean()


#: ``update(step, adapted, gradients)``: the adapted parameters after a step, steps counted from 0.
Update = Callable[[int, Tensors, Tensors], Tensors]


@dataclass(frozen=True)
class Reference:
    """The task loss, how it is descended on, how layers normalise: what definitions start from.

    Attributes:
        scale: factor of the support loss (N for the sum over ways).
        adapted: whether MAML's inner loop changes a parameter.
        norm: training mode of normalisation.
        options: of the algorithm, validated, with all defaults.
        step, total_steps: outer steps done and planned.
        step_scalars: the algorithm's of all tasks of the step, each [B].
    """

    net: Network
    loss: Callable[[Tensor, Tensor], Tensor]
    lr: float
    steps: int
    scale: float
    adapted: Callable[[str], bool]
    norm: Literal["transductive", "support", "running", "none"]
    options: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    total_steps: int = 1
    step_scalars: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def _norm(self) -> Normalisation:
        return "off" if self.norm == "none" else "batch"

    def query_outputs(self, phi: Tensors, task: Episode, step: int | None = None) -> Tensor:
        """Outputs for the queries after ``step`` inner steps; None: after all of them."""
        step = self.steps if step is None else step
        norm = self._norm
        if self.norm == "support":
            norm = self.net(phi, task.support_x, "batch", step)[1]
        return self.net(phi, task.query_x, norm, step)[0]

    def query_loss(self, phi: Tensors, task: Episode, step: int | None = None) -> Tensor:
        """L(phi; query)."""
        return self.loss(self.query_outputs(phi, task, step), task.query_y)

    def support_loss(self, phi: Tensors, task: Episode, step: int) -> Tensor:
        """What is descended on in inner step ``step``."""
        outputs, _ = self.net(phi, task.support_x, self._norm, step)
        return self.scale * self.loss(outputs, task.support_y)

    def descend(self, step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        """MAML's update."""
        return {n: p - self.lr * gradients[n] for n, p in adapted.items()}

    def path(
        self, theta: Tensors, task: Episode, *, graph: bool, update: Update | None = None
    ) -> Iterator[Tensors]:
        """Parameters after 0, 1, ... steps.

        Args:
            theta: leaves, or what depends on leaves.
            graph: whether the inner gradients can be differentiated; they are constants if not,
                and only what ``update`` does with them can.
        """
        phi = dict(theta)
        yield phi
        names = [n for n in theta if self.adapted(n)]
        for step in range(self.steps):
            value = self.support_loss(phi, task, step)
            parts = torch.autograd.grad(
                value, [phi[n] for n in names], create_graph=graph, materialize_grads=True
            )
            gradients = dict(zip(names, parts, strict=True))
            phi = {**phi, **(update or self.descend)(step, {n: phi[n] for n in names}, gradients)}
            yield phi


def leaves(theta: Mapping[str, Tensor]) -> Tensors:
    """Fresh leaves."""
    return {n: p.detach().clone().requires_grad_() for n, p in theta.items()}


def derivative(value: Tensor, at: Tensors) -> Tensors:
    """By name; zeros for what the value does not depend on."""
    parts = torch.autograd.grad(value, list(at.values()), materialize_grads=True)
    return dict(zip(at, parts, strict=True))


Noise = Mapping[str, Tensor]
#: ``definition(learner, theta, task, noise)``: loss and meta-gradient of one task.
Definition = Callable[[Reference, Mapping[str, Tensor], Episode, Noise], tuple[Tensor, Tensors]]
#: ``prediction(learner, theta, task, noise)``: outputs [Q, E] for the queries after all steps.
Prediction = Callable[[Reference, Mapping[str, Tensor], Episode, Noise], Tensor]


def maml(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """Query loss after adaptation and its derivative through every inner gradient."""
    start = leaves(theta)
    *_, final = learner.path(start, task, graph=True)
    value = learner.query_loss(final, task)
    return value.detach(), derivative(value, start)


def fomaml(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """The same loss; the gradient of the query loss at the adapted parameters, made leaves."""
    *_, final = learner.path(leaves(theta), task, graph=False)
    final = leaves(final)
    value = learner.query_loss(final, task)
    return value.detach(), derivative(value, final)


DEFINITIONS: dict[str, Definition] = {"maml": maml, "fomaml": fomaml}


def total(parts: Iterable[Mapping[str, Tensor]]) -> Tensors:
    """Sum by name."""
    result: Tensors = {}
    for part in parts:
        for name, value in part.items():
            result[name] = result[name] + value if name in result else value.clone()
    return result
