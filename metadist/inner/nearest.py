"""Classification by the nearest neighbour or the nearest class mean, without anything learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from metadist.discovery import Options as OptionsBase
from metadist.inner.similarity import Metric, class_means, nearest_logits, similarity


class NearestOptions(OptionsBase):
    """``rule``: the class of the nearest support example, or the class whose mean is nearest.
    ``metric``: what is near.
    """

    rule: Literal["nearest", "mean"] = "nearest"
    metric: Metric = "cosine"


@dataclass(frozen=True)
class Neighbours:
    """The support set as a classifier.

    Attributes:
        features: [S, D]; labels: int64 [S].
    """

    options: NearestOptions
    features: Tensor
    labels: Tensor
    ways: int

    def logits(self, queries: Tensor) -> Tensor:
        """Similarities [Q, N] of query features [Q, D] to each class; the largest decides."""
        metric = self.options.metric
        if self.options.rule == "mean":
            return similarity(metric, queries, class_means(self.features, self.labels, self.ways))
        return nearest_logits(similarity(metric, queries, self.features), self.labels, self.ways)
