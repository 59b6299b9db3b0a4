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
from metadist.backbones import Norm, Trace
from metadist.inner.nearest import NearestOptions, Neighbours
from metadist.inner.pretraining import Pretraining, joint_shape, without_steps
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

    def _features(self, params: Params, x: Tensor, norm: Norm) -> Tensor:
        trace: Trace = {}
        self.network.forward(params, x, norm, trace)
        return trace["features"]

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ctx: Context
    ) -> list[Embedded]:
        """Features of the support set."""
        norm = self.normalisation.support(without_steps(ctx))
        features = self._features(params, support_x, norm)
        neighbours = Neighbours(self.options, features, support_y, self.ways)
        return [Embedded(params, support_x, neighbours)]

    def _query_norm(self, fitted: Embedded, ctx: Context) -> Norm:
        return self.normalisation.query(fitted.params, fitted.support_x, without_steps(ctx))

    def predict(self, fitted: Embedded, x: Tensor, ctx: Context) -> Tensor:
        """Similarities [n, N] of queries x [n, ...] to each class."""
        norm = self._query_norm(fitted, ctx)
        return fitted.neighbours.logits(self._features(fitted.params, x, norm))


def build(parts: Parts) -> NearestEmbedding:
    """The learner."""
    assert isinstance(parts.options, Options)
    return NearestEmbedding(
        network=parts.network(joint_shape(parts.shape)),
        kind="classification",
        options=parts.options,
        ways=parts.shape.outputs,
    )
