"""A network with a learned square matrix T behind every linear map: y = T (W x + b).

Lee & Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and Subspace", ICML 2018,
section 3.1. The inner loop changes W and b but never T. In terms of A = T W its step is
A - alpha T T' dL/dA: T is a learned metric for each layer's gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metadist.inner.spectra import spectra
from metadist.inner.wrapped import Wrapped
from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.tasks import Params

SUFFIX = ".transform"


@dataclass(frozen=True)
class Transformed(Wrapped):
    """A backbone with ``<layer>.transform`` [outputs, outputs] in each layer, the head included.

    T stands behind the bias and before normalisation; in a convolution it mixes channels. It
    starts as the identity.
    """

    def init(self, key: Key) -> Params:
        """The network's parameters, then the transforms."""
        transforms = {f"{x.name}{SUFFIX}": torch.eye(x.outputs) for x in self.layers}
        return {**self.network.init(key), **transforms}


def transform_quantities(params: Params) -> LearnedQuantities:
    """Smallest and largest singular value of each layer's T, where there are any."""
    found = {n.removesuffix(SUFFIX): p for n, p in params.items() if n.endswith(SUFFIX)}
    return spectra("transform", found) if found else {}
