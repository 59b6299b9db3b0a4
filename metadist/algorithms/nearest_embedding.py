"""Nearest neighbour on the features of a network that was trained to tell all training classes.

The baseline of Ravi & Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017,
section 5, and the "baseline classifier" of Vinyals et al., "Matching Networks for One Shot
Learning", NeurIPS 2016, section 4.1: in a new task the network's head is dropped and a query gets
the class of the nearest support example by cosine similarity.

It learns features that separate its training classes; it never sees a few-shot task in training,
and nothing is tuned in one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import features
from metadist.inner.pretraining import Pretraining, joint_shape
from metadist.inner.similarity import NearestOptions, Neighbours
from metadist.tasks import Context, Params

KINDS = ("classification",)

Options = NearestOptions


@dataclass(frozen=True)
class Embedded:
    """The network and what it makes of the support set, whose images ``support`` normalisation
    needs.
    """

    params: Params
    support_x: Tensor
    neighbours: Neighbours


@dataclass(frozen=True)
class NearestEmbedding(Pretraining):
    """Joint training, then similarity of what enters the head."""

    options: NearestOptions
    ways: int

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ctx: Context
    ) -> list[Embedded]:
        """Features of the support set."""
        found = features(self.network, params, support_x, self.normalisation.support(ctx))
        return [Embedded(params, support_x, Neighbours(self.options, found, support_y, self.ways))]

    def predict(self, fitted: Embedded, x: Tensor, ctx: Context) -> Tensor:
        """Similarities [n, N] of queries x [n, ...] to each class."""
        norm = self.normalisation.query(fitted.params, fitted.support_x, ctx)
        return fitted.neighbours.logits(features(self.network, fitted.params, x, norm))


def build(parts: Parts[Options]) -> NearestEmbedding:
    return NearestEmbedding(
        network=parts.network(joint_shape(parts.shape)),
        kind="classification",
        options=parts.options,
        ways=parts.shape.outputs,
    )
