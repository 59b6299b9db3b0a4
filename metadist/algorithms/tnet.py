"""T-net: MAML in a network whose layers end in a meta-learned matrix, a metric for the inner loop.

Lee & Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and Subspace", ICML 2018,
section 3.1. A layer is y = T (W x + b). The inner loop changes W and b but never T, the outer loop
all of them. In terms of A = T W an inner step is A - alpha T T' dL/dA: T is a learned metric for
each layer's gradient. More inner steps at test than in training may diverge.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.algorithms import Parts, maml
from metadist.backbones import Norm, Output, Statistics
from metadist.errors import RecipeError
from metadist.inner.backbone_wrapper import Reparametrised
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.singular_values import singular_values
from metadist.keys import Key
from metadist.learner import Captions, LearnedQuantities
from metadist.objectives import Objective
from metadist.tasks import Examples, Params

SUFFIX = ".transform"

Options = maml.Options


@dataclass(frozen=True)
class Transformed(Reparametrised):
    """A backbone with ``<layer>.transform`` [outputs, outputs] in each layer, the head included.

    T stands behind the bias and before normalisation; in a convolution it mixes channels. It
    starts as the identity.

    Raises:
        RecipeError: the network has no place for T.
    """

    def __post_init__(self) -> None:
        try:
            inspect.signature(self.network.forward).bind({}, None, None, layer_hook=None)
        except TypeError as error:
            raise RecipeError(
                "algorithm: a T-net needs a network whose forward takes a layer_hook, which "
                f"{type(self.network).__name__} does not: {error}; add it or take another algorithm"
            ) from None

    def init(self, key: Key) -> Params:
        """The network's parameters, then the transforms."""
        transforms = {f"{x.name}{SUFFIX}": torch.eye(x.outputs) for x in self.layers}
        return {**self.network.init(key), **transforms}

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        """Outputs [n, outputs] for examples [n, ...]."""

        def transformed(layer: str, y: Tensor) -> Tensor:
            t = params[f"{layer}{SUFFIX}"]
            if y.dim() not in (2, 4):
                # Which of its axes are channels cannot be seen.
                raise RecipeError(
                    "algorithm: a T-net needs layers that put out [n, D] or [n, C, H, W]; layer "
                    f"{layer!r} puts out {tuple(y.shape)}: take another network or algorithm"
                )
            return F.linear(y, t) if y.dim() == 2 else F.conv2d(y, t[:, :, None, None])

        return self.network.forward(params, x, norm, layer_hook=transformed, **how)

    def inside(self, params: Params, norm: Norm) -> Params:
        """Each layer's T folded into its weight and bias: T (W x + b) = (T W) x + T b."""
        return params | self._mixed(params, params, transposed=False)

    def loss_gradient(
        self,
        params: Params,
        wrt: tuple[str, ...],
        examples: Examples,
        norm: Norm,
        objective: Objective,
        scale: float,
    ) -> tuple[Tensor, Params, Statistics] | None:
        """With A = T W the gradient of W is T' times that of A."""
        fused = self.network.loss_gradient(
            self.inside(params, norm), wrt, examples, norm, objective, scale
        )
        if fused is None:
            return None
        loss, gradients, statistics = fused
        return loss, gradients | self._mixed(gradients, params, transposed=True), statistics

    def _mixed(self, tensors: Params, params: Params, *, transposed: bool) -> Params:
        """T, or its transpose, times those of the tensors that are a layer's weight or bias."""
        mixed = {}
        for layer in self.layers:
            t = params[f"{layer.name}{SUFFIX}"]
            for name in layer.parameters:
                if name in tensors:
                    mixed[name] = _outputs_mixed(t.t() if transposed else t, tensors[name])
        return mixed


def _outputs_mixed(t: Tensor, tensor: Tensor) -> Tensor:
    """T [o, o] times a tensor [o, ...], with the outputs last in memory, as kernels want them."""
    if tensor.dim() == 4:
        return (tensor.permute(2, 3, 1, 0) @ t.t()).permute(3, 2, 0, 1)
    return t @ tensor


@dataclass(frozen=True)
class TNet(InnerLoop):
    """An inner loop that leaves the transforms as they are."""

    def adapts(self, name: str) -> bool:
        return super().adapts(name) and not name.endswith(SUFFIX)

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        """What the inner optimizer has learned, and each T's singular values."""
        transforms = {n.removesuffix(SUFFIX): p for n, p in params.items() if n.endswith(SUFFIX)}
        found = singular_values("transform", transforms) if transforms else {}
        return {**super().learned_quantities(params), **found}

    @property
    def captions(self) -> Captions:
        text = (
            "Bar: from the smallest to the largest singular value of each layer's T; at 1 only, T "
            "is the identity (up to a rotation) and the learner is MAML. The longer the bar, the "
            "more the inner loop prefers some directions (×: largest / smallest)."
        )
        return {**super().captions, "transform": ("Learned transforms T", text)}


def build(parts: Parts[Options]) -> TNet:
    return parts.inner_loop(
        TNet, backbone=Transformed(parts.backbone), adapt_norm=parts.options.adapt_norm
    )
