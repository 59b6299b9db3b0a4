"""What the numbers should be: plain torch, written from the papers' equations.

Nothing here calls the code under test: networks, losses, adaptation and meta-gradients are written
a second time, normalisation from means and variances. The tolerances of all numerical tests stand
here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    """One task."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


#: (mean, biased variance) by layer.
Moments = dict[str, tuple[Tensor, Tensor]]
#: Normalise by the batch, by given moments, or not at all.
Normalisation = Literal["batch", "off"] | Moments


@dataclass(frozen=True)
class Net:
    """conv4 or mlp as their docstrings describe them."""

    family: Literal["conv4", "mlp"]
    pool: bool = False
    flatten: bool = False
    tanh: bool = False
    epsilon: float = 1e-3

    def __call__(self, p: Tensors, x: Tensor, norm: Normalisation) -> tuple[Tensor, Moments]:
        """Outputs, and the moments of what enters each normalisation layer."""
        return self._mlp(p, x) if self.family == "mlp" else self._conv4(p, x, norm)

    def _mlp(self, p: Tensors, x: Tensor) -> tuple[Tensor, Moments]:
        h = x.reshape(len(x), -1)
        layers = len(p) // 2
        for layer in range(1, layers + 1):
            h = h @ p[f"linear{layer}.weight"].T + p[f"linear{layer}.bias"]
            if layer < layers:
                h = h.tanh() if self.tanh else h * (h > 0)
        return h, {}

    def _conv4(self, p: Tensors, x: Tensor, norm: Normalisation) -> tuple[Tensor, Moments]:
        moments: Moments = {}
        h = x
        for block in range(1, 5):
            stride = 1 if self.pool else 2
            h = torch.conv2d(h, p[f"conv{block}.weight"], stride=stride, padding=1)
            layer = f"norm{block}"
            mean = h.mean(dim=(0, 2, 3))
            variance = ((h - mean[None, :, None, None]) ** 2).mean(dim=(0, 2, 3))
            moments[layer] = (mean, variance)
            if norm != "off":
                used = moments[layer] if norm == "batch" else norm[layer]
                h = h - used[0][None, :, None, None]
                h = h / torch.sqrt(used[1] + self.epsilon)[None, :, None, None]
            if f"{layer}.scale" in p:
                h = h * p[f"{layer}.scale"][None, :, None, None]
            if f"{layer}.shift" in p:
                h = h + p[f"{layer}.shift"][None, :, None, None]
            h = h * (h > 0)
            if self.pool:
                rows, columns = h.shape[2] // 2, h.shape[3] // 2
                h = h[:, :, : 2 * rows, : 2 * columns]
                h = h.reshape(len(h), -1, rows, 2, columns, 2).amax(dim=(3, 5))
        h = h.reshape(len(h), -1) if self.flatten else h.mean(dim=(2, 3))
        return h @ p["head.weight"].T + p["head.bias"], moments


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood."""
    chosen = logits[torch.arange(len(labels)), labels]
    return (torch.logsumexp(logits, dim=1) - chosen).mean()


def squared_error(values: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples and dimensions."""
    return ((values - targets) ** 2).mean()


@dataclass(frozen=True)
class Learner:
    """MAML's definition: the task loss, how it is descended on and how layers normalise.

    Attributes:
        scale: factor of the support loss (N for the sum over ways).
        adapted: whether the inner loop changes a parameter.
        norm: training mode of normalisation.
    """

    net: Net
    loss: Callable[[Tensor, Tensor], Tensor]
    lr: float
    steps: int
    scale: float
    adapted: Callable[[str], bool]
    norm: Literal["transductive", "support", "running", "none"]

    @property
    def _norm(self) -> Normalisation:
        return "off" if self.norm == "none" else "batch"

    def query_loss(self, phi: Tensors, task: Episode) -> Tensor:
        """L(phi; query)."""
        norm = self._norm
        if self.norm == "support":
            norm = self.net(phi, task.support_x, "batch")[1]
        return self.loss(self.net(phi, task.query_x, norm)[0], task.query_y)

    def path(self, theta: Tensors, task: Episode, *, graph: bool) -> Iterator[Tensors]:
        """Parameters after 0, 1, ... steps."""
        phi = dict(theta)
        yield phi
        names = [n for n in theta if self.adapted(n)]
        for _ in range(self.steps):
            outputs, _ = self.net(phi, task.support_x, self._norm)
            value = self.scale * self.loss(outputs, task.support_y)
            parts = torch.autograd.grad(value, [phi[n] for n in names], create_graph=graph)
            phi = {**phi, **{n: phi[n] - self.lr * g for n, g in zip(names, parts, strict=True)}}
            if not graph:
                phi = {n: p.detach().requires_grad_() for n, p in phi.items()}
            yield phi


def leaves(theta: Mapping[str, Tensor]) -> Tensors:
    """Fresh leaves."""
    return {n: p.detach().clone().requires_grad_() for n, p in theta.items()}


def _derivative(value: Tensor, at: Tensors) -> Tensors:
    parts = torch.autograd.grad(value, list(at.values()), materialize_grads=True)
    return dict(zip(at, parts, strict=True))


def maml(learner: Learner, theta: Mapping[str, Tensor], task: Episode) -> tuple[Tensor, Tensors]:
    """Query loss after adaptation and its derivative through every inner gradient."""
    start = leaves(theta)
    *_, final = learner.path(start, task, graph=True)
    value = learner.query_loss(final, task)
    return value.detach(), _derivative(value, start)


def fomaml(learner: Learner, theta: Mapping[str, Tensor], task: Episode) -> tuple[Tensor, Tensors]:
    """The same loss; the gradient of the query loss at the adapted parameters, made leaves."""
    *_, final = learner.path(leaves(theta), task, graph=False)
    final = leaves(final)
    value = learner.query_loss(final, task)
    return value.detach(), _derivative(value, final)


#: An algorithm whose estimator is not ``exact`` must have its definition here.
DEFINITIONS: dict[str, Callable[[Learner, Mapping[str, Tensor], Episode], tuple[Tensor, Tensors]]]
DEFINITIONS = {"maml": maml, "fomaml": fomaml}


def total(parts: Iterable[Mapping[str, Tensor]]) -> Tensors:
    """Sum by name."""
    result: Tensors = {}
    for part in parts:
        for name, value in part.items():
            result[name] = result[name] + value if name in result else value.clone()
    return result
