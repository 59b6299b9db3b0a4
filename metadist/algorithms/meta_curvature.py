"""Meta-Curvature: MAML with gradients multiplied by meta-learned matrices along each axis.

Park & Oliva, "Meta-Curvature", NeurIPS 2019, section 3. For the weights [Co, Ci, *kernel] of a
convolution, with the kernel's d positions as one axis, a step is phi - alpha * MC(gradient) with

    MC(G)[p, q, r] = sum over a, b, c of  M_out[p, a] M_in[q, b] M_kernel[r, c] G[a, b, c]

whatever the order of the three products. A linear layer has d = 1; the 1x1 matrix along that axis
would be no more than a second scale and is left out. A vector is multiplied elementwise by a
vector, as in the released code, or by a matrix. All of them start as the identity.

MC2 learns all three, MC1 leaves M_out out. They cost Co^2 + Ci^2 + d^2 numbers for weights
[Co, Ci, d] and no inversion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from metadist.algorithms import Parts, maml
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import Chain, InnerOptimizer, InnerStep
from metadist.inner.sgd import SGD
from metadist.inner.singular_values import singular_values
from metadist.keys import Key
from metadist.learner import Captions, LearnedQuantities
from metadist.tasks import Params


class Options(maml.Options):
    variant: Literal["mc1", "mc2"] = "mc2"
    """matrices along the inputs alone or the outputs too"""
    bias: Literal["vector", "matrix"] = "vector"
    """what multiplies the gradient of a bias: an elementwise vector (as released), or a matrix"""


def mode_products(
    gradient: Tensor, along_out: Tensor | None, along_in: Tensor, along_kernel: Tensor | None
) -> Tensor:
    """MC(G) of a gradient [Co, Ci, *kernel]; None stands for the identity.

    Args:
        along_out: M_out [Co, Co]; along_in: M_in [Ci, Ci]; along_kernel: M_kernel [d, d].
    """
    g = gradient
    if along_out is not None:
        g = (along_out @ g.reshape(len(g), -1)).reshape(gradient.shape)
    if gradient.dim() == 2:
        return g @ along_in.T
    g = g.reshape(*gradient.shape[:2], -1)
    if along_kernel is not None:
        g = g @ along_kernel.T
    return (along_in @ g).reshape(gradient.shape)


@dataclass(frozen=True)
class MetaCurvature(InnerOptimizer):
    """``<parameter>.out``, ``.in``, ``.kernel`` of weights; ``.vector`` or ``.matrix`` of vectors.

    It transforms gradients; the step size alpha, outside the matrices, is another's.

    Attributes:
        along_out: learn M_out (MC2); False leaves it the identity (MC1).
        vectors: what multiplies the gradient of a vector.
    """

    along_out: bool = True
    vectors: Literal["vector", "matrix"] = "vector"

    def init(self, adapted: Params, key: Key) -> Params:
        meta: Params = {}
        for name, p in adapted.items():
            if p.dim() == 1:
                fresh = torch.ones(len(p)) if self.vectors == "vector" else torch.eye(len(p))
                meta[f"{name}.{self.vectors}"] = fresh
                continue
            if self.along_out:
                meta[f"{name}.out"] = torch.eye(p.shape[0])
            meta[f"{name}.in"] = torch.eye(p.shape[1])
            positions = math.prod(p.shape[2:])
            if positions > 1:
                meta[f"{name}.kernel"] = torch.eye(positions)
        return meta

    def _transformed(self, name: str, gradient: Tensor, meta: Params) -> Tensor:
        if gradient.dim() > 1:
            along = [meta.get(f"{name}.{axis}") for axis in ("out", "kernel")]
            return mode_products(gradient, along[0], meta[f"{name}.in"], along[1])
        if self.vectors == "vector":
            return meta[f"{name}.vector"] * gradient
        return meta[f"{name}.matrix"] @ gradient

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        """The transformed gradients; the same matrices at every step."""
        return {n: self._transformed(n, gradients[n], step.meta) for n in adapted}, {}

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        """Smallest and largest singular value of each matrix."""
        return singular_values("curvature", meta)

    @property
    def captions(self) -> Captions:
        text = (
            "Bar: from the smallest to the largest singular value of each matrix; at 1 only, it is "
            "the identity (up to a rotation) and the step is MAML's. The longer the bar, the more "
            "the gradient is bent (×: largest / smallest)."
        )
        return {"curvature": ("Learned curvature", text)}


def build(parts: Parts[Options]) -> InnerLoop:
    options = parts.options
    curvature = MetaCurvature(along_out=options.variant == "mc2", vectors=options.bias)
    return replace(maml.build(parts), optimizer=Chain((curvature, SGD())))
