"""What preconditioned adaptation should be: plain torch and numpy, from the papers' equations.

Meta-SGD (Li et al., 2017), Meta-Curvature (Park & Oliva, 2019), T-net and MT-net (Lee & Choi,
2018). Nothing here calls the code under test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from tests.numerics.reference import (
    Definition,
    Episode,
    Noise,
    Reference,
    Tensors,
    Update,
    derivative,
    leaves,
)

# --- Meta-SGD -------------------------------------------------------------------------------------


def meta_sgd(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """phi = theta - a o g."""
    start = leaves(theta)

    def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        return {
            n: p - torch.mul(start[f"rule.{n}.step_size"], gradients[n]) for n, p in adapted.items()
        }

    return _meta_gradient(learner, start, task, update)


def _meta_gradient(
    learner: Reference, start: Tensors, task: Episode, update: Update
) -> tuple[Tensor, Tensors]:
    *_, final = learner.path(start, task, graph=True, update=update)
    value = learner.query_loss(final, task)
    return value.detach(), derivative(value, start)


# --- Meta-Curvature -------------------------------------------------------------------------------


def curved(gradient: Tensor, out: Tensor, inward: Tensor, kernel: Tensor) -> Tensor:
    """(M_o x M_i x M_f) vec(G) with the whole Kronecker product written out, vec row by row."""
    whole = torch.kron(torch.kron(out.contiguous(), inward.contiguous()), kernel.contiguous())
    return (whole @ gradient.reshape(-1)).reshape(gradient.shape)


def meta_curvature(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """phi = theta - alpha MC(g); a matrix that there is not is the identity."""
    start = leaves(theta)

    def preconditioned(name: str, g: Tensor) -> Tensor:
        if g.dim() == 1:
            elementwise = learner.options["bias"] == "vector"
            matrix = start[f"rule.{name}.{'vector' if elementwise else 'matrix'}"]
            return (torch.diag(matrix) if elementwise else matrix) @ g
        sizes = {"out": g.shape[0], "in": g.shape[1], "kernel": g[0, 0].numel()}
        matrices = [
            start.get(f"rule.{name}.{axis}", torch.eye(size, dtype=g.dtype))
            for axis, size in sizes.items()
        ]
        return curved(g, *matrices)

    def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        return {n: p - learner.lr * preconditioned(n, gradients[n]) for n, p in adapted.items()}

    return _meta_gradient(learner, start, task, update)


def numpy_curved(
    gradient: np.ndarray,
    out: np.ndarray,
    inward: np.ndarray,
    kernel: np.ndarray,
    order: Iterable[str],
) -> np.ndarray:
    """The three mode products of a gradient [Co, Ci, d], one after the other in an order."""
    sums = {
        "out": ("pa,abc->pbc", out),
        "in": ("qb,abc->aqc", inward),
        "kernel": ("rc,abc->abr", kernel),
    }
    result = gradient
    for axis in order:
        subscripts, matrix = sums[axis]
        result = np.einsum(subscripts, matrix, result)
    return result


# --- T-net and MT-net -----------------------------------------------------------------------------


def tnet(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """MAML in a network y = T(Wx + b) whose T the inner loop leaves alone."""
    start = leaves(theta)
    return _meta_gradient(learner, start, task, learner.descend)


def relaxation(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """The Gumbel-softmax of two classes with logits (zeta, 0): the first one's share."""
    scores = torch.stack([logits + noise[0], noise[1]]) / temperature
    return torch.softmax(scores, 0)[0]


def mtnet(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """phi = theta - alpha m o g.

    Straight-through: masks are leaves with the values 0 and 1; their gradient, times the derivative
    of the relaxation at the same noise, is the logits' gradient.
    """
    start = leaves(theta)
    whole = learner.options["mask_per"] == "weight"
    hard = learner.options["mask"] == "hard"
    soft: Tensors = {}
    masks: Tensors = {}
    for name, drawn in noise.items():
        zeta = start[f"rule.{name.rpartition('.')[0]}.logits"]
        soft[name] = relaxation(zeta, drawn.to(zeta.dtype), learner.options["temperature"])
        chosen = zeta + drawn[0] > drawn[1]
        masks[name] = chosen.to(zeta.dtype).requires_grad_() if hard else soft[name]

    def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        new = {}
        for name, p in adapted.items():
            mask = masks[f"{name}.{step}" if whole else f"{name.rsplit('.', 1)[0]}.0"]
            flat = mask.reshape(len(p), -1) * gradients[name].reshape(len(p), -1)
            new[name] = p - learner.lr * flat.reshape(p.shape)
        return new

    *_, final = learner.path(start, task, graph=True, update=update)
    value = learner.query_loss(final, task)
    if not hard:
        return value.detach(), derivative(value, start)
    gradients = derivative(value, {**start, **masks})
    for name in masks:
        logits = f"rule.{name.rpartition('.')[0]}.logits"
        (slope,) = torch.autograd.grad(soft[name], start[logits], torch.ones_like(soft[name]))
        gradients[logits] = gradients[logits] + gradients.pop(name) * slope
    return value.detach(), gradients


def composed(params: Mapping[str, Tensor]) -> Tensors:
    """The same network without transforms: A = T W and T b."""
    result = {n: p for n, p in params.items() if not n.startswith("rule.")}
    for name in [n for n in result if n.endswith(".transform")]:
        t = result.pop(name)
        layer = name.removesuffix(".transform")
        for part in ("weight", "bias"):
            if f"{layer}.{part}" in result:
                w = result[f"{layer}.{part}"]
                result[f"{layer}.{part}"] = torch.einsum("vu,u...->v...", t, w)
    return result


def preconditioned_descent(
    learner: Reference, start: Mapping[str, Tensor], task: Episode, metric: Mapping[str, Tensor]
) -> Tensors:
    """A - alpha P dL/dA in every layer, A [units, ...], P [units, units] by layer name."""

    def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        return {
            n: p - learner.lr * torch.einsum("vu,u...->v...", metric[n.split(".")[0]], gradients[n])
            for n, p in adapted.items()
        }

    *_, final = learner.path(leaves(start), task, graph=False, update=update)
    return {n: p.detach() for n, p in final.items()}


DEFINITIONS: dict[str, Definition] = {
    "meta_sgd": meta_sgd,
    "meta_curvature": meta_curvature,
    "tnet": tnet,
    "mtnet": mtnet,
}
