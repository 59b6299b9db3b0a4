"""Nearest neighbour on the features of a network that was trained to tell all training classes.

The baseline of Ravi & Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017,
section 5, and the "baseline classifier" of Vinyals et al., "Matching Networks for One Shot
Learning", NeurIPS 2016, section 4.1: in a new task the network's head is dropped and a query gets
the class of the nearest support example by cosine similarity.

It learns features that separate its training classes; it never sees a few-shot task in training.
Nothing is tuned in one, but with ``fine_tune``, the "fine tune" rows of Vinyals' tables: then the
network, with a fresh head, first takes gradient steps on the support set as ``finetune.py`` has
them, and what is compared are the features after these.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from metadist.algorithms import Parts
from metadist.algorithms.finetune import DecayedSGD, FineTuning
from metadist.context import Context
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.passes import passed
from metadist.inner.pretraining import Pretraining, joint_shape
from metadist.inner.similarity import NearestOptions, Neighbours, sequence_logits
from metadist.learner import Explanation
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)


class Options(NearestOptions):
    fine_tune: bool = False
    """tune the network, with a fresh head, to the support set by `inner.steps` steps, before
    features are compared"""


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
    """Joint training, then similarity of what enters the head.

    Attributes:
        tuning: what is done to the network before; None: nothing.
    """

    options: NearestOptions
    tuning: FineTuning | None = None

    def adapt(self, params: Params, task: Task, ctx: Context) -> list[Embedded]:
        """The support set's features, with tuning those after 0, 1, ... steps."""
        if self.tuning is None:
            return [self.embedded(params, task.support, ctx)]
        tuned = self.tuning.adapt(params, task, ctx)
        return [self.embedded(one.model.params, task.support, ctx) for one in tuned]

    def embedded(self, params: Params, support: Examples, ctx: Context) -> Embedded:
        """Features of the support set, in a network of these parameters."""
        norm = self.normalisation.support(ctx)
        found, _ = passed(self.network, params, support.x, norm, ctx, head=False)
        return Embedded(params, support, Neighbours(self.options, found, support.y, self.ways))

    def predict(self, fitted: Embedded, query: Examples, ctx: Context) -> Prediction:
        """Similarities [n, N] of n queries to each class."""
        return Prediction(fitted.neighbours.logits(self.features(fitted, query, ctx)))

    def features(self, fitted: Embedded, query: Examples, ctx: Context) -> Tensor:
        """Features [n, D] of n queries."""
        norm = self.normalisation.query(fitted.params, fitted.support, ctx)
        return passed(self.network, fitted.params, query.x, norm, ctx, head=False)[0]

    def explanation(self, fitted: Embedded, query: Examples, ctx: Context) -> Explanation:
        return Explanation(fitted.neighbours.features, self.features(fitted, query, ctx))


class Untuned(NearestEmbedding):
    """One that is not tuned to a task also predicts its examples in sequence."""

    def sequence_predictions(self, params: Params, examples: Examples, ctx: Context) -> Prediction:
        """See :class:`metadist.inner.blocks.sequence.PredictsSequences`."""
        norm = self.normalisation.support(ctx)
        found, _ = passed(self.network, params, examples.x, norm, ctx, head=False)
        return Prediction(sequence_logits(self.options, found, examples.y, self.ways))


def build(parts: Parts[Options]) -> NearestEmbedding:
    network, ways = parts.network(joint_shape(parts.shape)), parts.shape.ways
    tuning = None
    if parts.options.fine_tune:
        loop = parts.inner_loop(
            InnerLoop, optimizer=DecayedSGD(), second_order=False, adapt_norm=True
        )
        tuning = FineTuning(objective=parts.objective, network=network, ways=ways, loop=loop)
    return (NearestEmbedding if tuning else Untuned)(
        objective=parts.objective,
        network=network,
        ways=ways,
        options=parts.options,
        tuning=tuning,
    )
