"""T-net: MAML in a network whose layers end in a meta-learned matrix, a metric for the inner loop.

Lee & Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and Subspace", ICML 2018,
section 3.1. The inner loop changes weights and biases, the outer loop the matrices too. More inner
steps at test than in training may diverge.
"""

from __future__ import annotations

from dataclasses import dataclass

from metadist.algorithms import Parts, maml
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.sgd import SGD
from metadist.inner.transform import Transformed, transform_quantities
from metadist.learner import LearnedQuantities
from metadist.tasks import Params

Options = maml.Options


@dataclass(frozen=True)
class TNet(InnerLoop):
    """An inner loop that tells how far the transforms have gone from the identity."""

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        """What inner optimizer and transforms have learned."""
        return {**super().learned_quantities(params), **transform_quantities(params)}


def build(parts: Parts) -> TNet:
    """The learner."""
    assert isinstance(parts.options, Options)
    return TNet(
        backbone=Transformed(parts.backbone),
        kind=parts.shape.kind,
        ways=parts.shape.outputs,
        optimizer=SGD(parts.inner_lr),
        support_reduction=parts.inner_loss,
        adapt_norm=parts.options.adapt_norm,
    )
