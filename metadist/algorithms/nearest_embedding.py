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

from metadist.algorithms import Parts
from metadist.context import Context
from metadist.inner.passes import passed
from metadist.inner.pretraining import Pretraining, joint_shape
from metadist.inner.similarity import NearestOptions, Neighbours
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)

Options = NearestOptions


@dataclass(frozen=True)
class Embedded:
    """The network and what it makes of the support set, whose images ``support`` normalisation
    needs.
    """

    params: Params
    support: Examples
    neighbours: Neighbours


@dataclass(frozen=True)
class NearestEmbedding(Pretraining):
    """Joint training, then similarity of what enters the head."""

    options: NearestOptions

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[Embedded]:
        """Features of the support set."""
        support = task.support
        norm = self.normalisation.support(ctx)
        found, _ = passed(self.network, params, support.x, norm, ctx, head=False)
        return [Embedded(params, support, Neighbours(self.options, found, support.y, self.ways))]

    def predict(self, fitted: Embedded, query: Examples, ctx: Context) -> Prediction:
        """Similarities [n, N] of n queries to each class."""
        norm = self.normalisation.query(fitted.params, fitted.support, ctx)
        found, _ = passed(self.network, fitted.params, query.x, norm, ctx, head=False)
        return Prediction(fitted.neighbours.logits(found))


def build(parts: Parts[Options]) -> NearestEmbedding:
    return NearestEmbedding(
        network=parts.network(joint_shape(parts.shape)),
        objective=parts.objective,
        ways=parts.shape.ways,
        options=parts.options,
    )
