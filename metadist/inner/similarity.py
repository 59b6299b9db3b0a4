"""Classification by similarity of a query's features to those of the support set.

Nothing here is learned and everything can be differentiated and vmapped. The logits order the
classes; they are bare similarities, so a cross-entropy of them is no calibrated loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.discovery import Options as OptionsBase

Metric = Literal["cosine", "euclidean"]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine [n, m] of the angle between rows of a [n, D] and of b [m, D]; 0 for a zero row."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distance [n, m] between rows of a [n, D] and of b [m, D].

    By inner products, |a|^2 - 2 a b + |b|^2: memory for [n, m] numbers and not for [n, m, D]. Of
    rows that are much nearer to each other than to the origin the last digits are lost.
    """
    return a.square().sum(1, keepdim=True) - 2 * (a @ b.T) + b.square().sum(1)


def similarity(metric: Metric, a: Tensor, b: Tensor) -> Tensor:
    """[n, m] between rows of a [n, D] and of b [m, D]; larger is nearer.

    ``cosine``, or minus the ``euclidean`` distance, of which only first derivatives exist.
    """
    if metric == "cosine":
        return cosine(a, b)
    # Without the detour over inner products, which loses the digits that near rows differ in.
    return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def members(labels: Tensor, ways: int) -> Tensor:
    """Whether a support example is of a class, bool [N, S], for labels int64 [S]."""
    return torch.arange(ways, device=labels.device)[:, None] == labels


def class_means(features: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean [N, D] of the features [S, D] of each class; labels int64 [S], each at least once."""
    of_class = members(labels, ways).to(features.dtype)
    return of_class @ features / of_class.sum(1, keepdim=True)


def nearest_logits(similarities: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Similarity [Q, N] to the nearest example of each class, from similarities [Q, S].

    Their largest belongs to the class of the nearest neighbour (Cover & Hart, 1967).
    """
    others = ~members(labels, ways)
    return similarities[:, None, :].masked_fill(others, float("-inf")).amax(2)


def cosine_logits(query: Tensor, support: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Mean cosine [Q, N] of query features [Q, D] with the support features [S, D] of each class.

    Support labels weighted by similarity, as in Vinyals et al., "Matching Networks for One Shot
    Learning", NeurIPS 2016, and in the test without a head of Raghu et al., "Rapid Learning or
    Feature Reuse?", ICLR 2020, section 5.
    """
    of_class = members(labels, ways).to(query.dtype)
    return cosine(query, support) @ (of_class / of_class.sum(1, keepdim=True)).T


def class_attention(similarities: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Logarithm [Q, N] of the attention on each class, of similarities [Q, S]; labels int64 [S].

    The attention of a query is the softmax over the support set (Vinyals et al., "Matching Networks
    for One Shot Learning", NeurIPS 2016, equation 2); that on a class is the sum over its examples.
    """
    others = ~members(labels, ways)
    attention = similarities.log_softmax(1)[:, None, :].masked_fill(others, float("-inf"))
    return attention.logsumexp(2)


class NearestOptions(OptionsBase):
    rule: Literal["nearest", "mean"] = "nearest"
    """the class of the nearest support example, or the class whose mean is nearest"""
    metric: Metric = "cosine"
    """what is near"""


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


def sequence_logits(options: NearestOptions, features: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Similarities [T, N] of each of T examples in a row to the classes of those before it.

    Minus infinity of a class that has not come up; of features [T, D] with labels int64 [T].
    """
    never = features.new_full((), float("-inf"))
    if options.rule == "nearest":
        similar = similarity(options.metric, features, features)
        later = torch.ones_like(similar, dtype=torch.bool).triu()
        return nearest_logits(torch.where(later, never, similar), labels, ways)
    of_class = members(labels, ways).T.to(features.dtype)
    counts, sums = (_before(t) for t in (of_class, of_class[:, :, None] * features[:, None]))
    means = sums / counts.clamp_min(1)[:, :, None]
    rows = [
        similarity(options.metric, one[None], known)[0]
        for one, known in zip(features, means, strict=True)
    ]
    return torch.where(counts > 0, torch.stack(rows), never)


def _before(each: Tensor) -> Tensor:
    """Sums over all that stand before each of the places [T, ...]."""
    return torch.cat([torch.zeros_like(each[:1]), each[:-1].cumsum(0)])
