"""Batch normalisation with its statistics as an explicit input or output, never a buffer.

Ioffe & Szegedy, "Batch Normalization", 2015. The fused operator is used where the statistics are
those of the batch itself; it is right under double backward on the tape and under
``vmap(grad(grad))``, and wrong under ``grad(vmap(grad))``, which nothing here forms. Where given
statistics must themselves be differentiable the operation is written from primitives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.backbones._drop_block import Drops
from metadist.errors import RecipeError

#: (mean [C], biased variance [C]) of each norm layer, by layer name.
Statistics = dict[str, tuple[Tensor, Tensor]]

#: MAML's released code uses this value (TensorFlow's contrib default), not PyTorch's 1e-5.
EPSILON = 1e-3


@dataclass(frozen=True)
class Norm:
    """How the layers of one forward pass behave that are not the same in every pass.

    Attributes:
        kind: ``batch`` uses the statistics of the batch, ``given`` those in ``statistics``,
            ``off`` leaves the input as it is (scale and shift still apply).
        record: return the batch's statistics.
        step: inner steps taken before this pass.
        drops: what decides what is dropped; None: nothing is.
    """

    kind: Literal["batch", "given", "off"]
    record: bool = False
    statistics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    step: int = 0
    drops: Drops | None = None


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over batch and space of x [n, C, ...], each [C]."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    return x.mean(axes), x.var(axes, unbiased=False)


def normalise(
    x: Tensor,
    layer: str,
    scale: Tensor | None,
    shift: Tensor | None,
    norm: Norm,
    out: Statistics,
    epsilon: float = EPSILON,
) -> Tensor:
    """Normalise x [n, C, ...]; write the batch's statistics to ``out`` if ``norm.record``.

    Raises:
        RecipeError: a batch of one value per channel.
    """
    if norm.record:
        out[layer] = moments(x)
    if norm.kind == "batch":
        if x.numel() == x.shape[1]:
            raise RecipeError(
                f"batch normalisation {layer!r} has one value per channel, {tuple(x.shape)}, whose "
                "variance is 0; take another model.norm ('support', 'none'), GroupNorm or more "
                "examples"
            )
        if scale is None and shift is not None:
            # Its double backward cannot do without a scale where the shift is adapted.
            scale = torch.ones_like(shift)
        return F.batch_norm(x, None, None, scale, shift, training=True, eps=epsilon)
    form = (1, -1, *([1] * (x.dim() - 2)))
    if norm.kind == "given":
        # Running statistics are kept in float64 whatever the network computes in.
        mean, variance = (statistic.to(x.dtype) for statistic in norm.statistics[layer])
        x = (x - mean.reshape(form)) * (variance + epsilon).rsqrt().reshape(form)
    if scale is not None:
        x = x * scale.reshape(form)
    return x if shift is None else x + shift.reshape(form)
