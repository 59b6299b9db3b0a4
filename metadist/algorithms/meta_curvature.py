"""Meta-Curvature: MAML with gradients multiplied by meta-learned matrices along each axis.

Park & Oliva, "Meta-Curvature", NeurIPS 2019. MC2 learns matrices along output units, input units
and kernel positions; MC1 leaves the one along output units out. They cost Co^2 + Ci^2 + d^2 numbers
for weights [Co, Ci, d] and no inversion.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from metadist.algorithms import Parts, maml
from metadist.inner.curvature import Curvature
from metadist.inner.inner_loop import InnerLoop


class Options(maml.Options):
    """``bias``: what multiplies the gradient of a bias, an elementwise vector (as released) or a
    full matrix.
    """

    variant: Literal["mc1", "mc2"] = "mc2"
    bias: Literal["vector", "matrix"] = "vector"


def build(parts: Parts) -> InnerLoop:
    """The learner."""
    options = parts.options
    assert isinstance(options, Options)
    optimizer = Curvature(parts.inner_lr, along_out=options.variant == "mc2", vectors=options.bias)
    return replace(maml.build(parts), optimizer=optimizer)
