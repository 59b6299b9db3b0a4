"""SNAIL: a task is a sequence of examples with their labels, and a query stands at its end.

Mishra, Rohaninejad, Chen & Abbeel, "A Simple Neural Attentive Meta-Learner", ICLR 2018, section 3.
Each place of the sequence is an example's features and its label, one-hot; the query's is null:

    [f(x_1), y_1], ..., [f(x_S), y_S], [f(x), 0]  ->  logits, read at the last place

The network over it, of temporal convolutions (dense blocks of dilated causal convolutions, TC) and
causal attention, is that of the paper's experiments on images (appendix A), with F = 128 filters:

    attention (keys F/2, values F/4), TC (F), attention (2 F, F), TC (F), attention (4 F, 2 F), 1x1

where every block adds to what those before it have found. All of it depends on the number of ways,
which is that of training at test too.

Every query of a task is the end of a sequence of its own and knows of no other query; what comes
before it, the support set in the order in which the task has it (in an episode a random one), is
embedded and passed once for all of them.

Not as published: dilations are 1, 2, 4 ..., so that every example comes into sight (the paper's
pseudo-code has 2, 4, 8 ..., which leaves out all odd distances); the loss is the mean over a task's
queries, where published sequences end in one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.discovery import Options as OptionsBase
from metadist.inner.blocks.causal import AttentionBlock, CausalBlock, CausalNetwork, temporal
from metadist.inner.blocks.linear import Linear
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.similarity import members
from metadist.keys import Key
from metadist.learner import Explanation
from metadist.tasks import Params

TARGETS = ("labels",)
#: What the names of its parameters begin with.
PREFIX = "snail."


class Options(OptionsBase):
    embedding: Annotated[int, Field(ge=1)] = 64
    """outputs of a linear layer on the network's features (published: 64 on Omniglot)"""
    filters: Annotated[int, Field(ge=4)] = 32
    """of temporal convolutions; sizes of attention follow (published: 128)"""
    layers: Annotated[int, Field(ge=1)] = 3
    """of a temporal convolution, which then sees the last 2^layers places (published: the logarithm
    to base 2 of N · K + 1, rounded up)"""


def blocks(inputs: int, filters: int, layers: int) -> CausalNetwork:
    """The network over sequences of vectors of size ``inputs``."""
    found: list[CausalBlock] = []

    def size() -> int:
        return found[-1].inputs + found[-1].adds if found else inputs

    def attention(keys: int, values: int) -> None:
        found.append(AttentionBlock(f"{PREFIX}{len(found)}", size(), keys, values))

    attention(filters // 2, filters // 4)
    found.extend(temporal(f"{PREFIX}{len(found)}", size(), filters, layers))
    attention(2 * filters, filters)
    found.extend(temporal(f"{PREFIX}{len(found)}", size(), filters, layers))
    attention(4 * filters, 2 * filters)
    return CausalNetwork(tuple(found))


@dataclass(frozen=True)
class SNAIL(EmbeddingLearner):
    """What queries come after are the places [S, C] of the support set, after all blocks."""

    embedding: Linear
    blocks: CausalNetwork
    classifier: Linear

    def init(self, key: Key) -> Params:
        """Those of the encoder, and of what stands above it."""
        above = (part.init(key) for part in (self.embedding, self.blocks, self.classifier))
        return {**self.encoder.init(key), **{n: p for some in above for n, p in some.items()}}

    def places(self, params: Params, features: Tensor, coded: Tensor) -> Tensor:
        """[n, C] of features [n, D] with coded labels [n, N]."""
        return torch.cat([self.embedding(params, features), coded], 1)

    def known(self, params: Params, features: Tensor, labels: Tensor) -> Tensor:
        coded = members(labels, self.ways).T.to(features.dtype)
        return self.blocks.whole(params, self.places(params, features, coded))

    def compared(
        self, params: Params, known: Tensor, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Logits at the last place of each query's sequence."""
        ends = self.blocks.last(params, known, self.ends(params, queries))
        return self.classifier(params, ends), {}

    def ends(self, params: Params, queries: Tensor) -> Tensor:
        """The last places [Q, C], without a label, of query features [Q, D]."""
        null = queries.new_zeros(len(queries), self.ways)
        return self.places(params, queries, null)

    def explained(self, fitted: Embedded, queries: Tensor) -> Explanation:
        """What each attention reads of the support set; the rest is of the query itself."""
        ends = self.ends(fitted.params, queries)
        found = self.blocks.attention(fitted.params, fitted.known, ends).values()
        read = {f"attention {i}": weights[:, :-1] for i, weights in enumerate(found, 1)}
        return Explanation(fitted.features, queries, attention=read)


def build(parts: Parts[Options]) -> SNAIL:
    encoder, options, ways = parts.encoder, parts.options, parts.shape.ways
    features = math.prod(feature_shape(encoder, parts.shape.inputs))
    network = blocks(options.embedding + ways, options.filters, options.layers)
    return SNAIL(
        objective=parts.objective,
        encoder=encoder,
        ways=ways,
        embedding=Linear(f"{PREFIX}embedding", features, options.embedding),
        blocks=network,
        classifier=Linear(f"{PREFIX}classifier", network.outputs, ways),
    )
