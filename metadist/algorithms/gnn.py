"""Few-shot learning with graph neural networks: examples tell each other their labels.

Garcia & Bruna, "Few-Shot Learning with Graph Neural Networks", ICLR 2018. The support set and one
query are the vertices of a graph. Each is what an encoder f makes of an example, and its label,

    x_i = [f(x_i), h(l_i)];    h one-hot, uniform (1/N each) where there is no label

Two graph convolutions with learned adjacencies add to that, and a last one puts out logits, which
are read at the query (sections 4.1 and 4.2; see ``metadist.inner.blocks.graph``). Every query of a
task has a graph of its own, in which no other query is; the embeddings are shared. All of it has
the size of the number of ways, which is that of training at test too.

``unlabeled`` says what becomes of the task's unlabeled examples (``data.unlabeled``):

- ``vertices``: they are vertices without labels (semi-supervised, section 5.2);
- ``asked``: of one of them, after the first convolution, each graph asks for the label: the one
  that an attention a over them prefers, drawn by its probabilities in training (active learning,
  section 5.3). The label is added to what the vertex knows, times a learned weight w and a_i,
  whose value is 1 and whose derivative that of the probability (straight-through). Labels that were
  not asked for have no part in it; in the released code they have one in the derivative.
- ``random``: the same with a label at random, which asking is to be compared with.

As released, and not in the paper: layers of the adjacencies and convolutions are normalised
(``model.norm``). There labels that are not known are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.blocks.graph import GraphNetwork
from metadist.inner.blocks.linear import Linear
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.embedding.shapes import feature_shape
from metadist.inner.normalisation import Normalisation
from metadist.inner.similarity import members
from metadist.keys import Key
from metadist.learner import Estimator, Explanation, Loss
from metadist.tasks import Examples, Params, Task, Unlabeled

TARGETS = ("labels",)
#: What the names of its parameters and layers begin with.
PREFIX = "graph"
#: So far apart are a task's graphs in what they draw, of (0, 1): all draws are uniform, and spread.
GOLDEN = (math.sqrt(5) - 1) / 2


class Options(OptionsBase):
    embedding: Annotated[int, Field(ge=1)] = 64
    """outputs of a linear layer on the network's features (published: 64 on Omniglot, 128 on
    miniImageNet)"""
    width: Annotated[int, Field(ge=2)] = 32
    """of the layers that compare two vertices; a convolution adds half of it (published: 96)"""
    unlabeled: Literal["ignored", "vertices", "random", "asked"] = "ignored"
    """what becomes of unlabeled examples: nothing; vertices without labels; the same, and the label
    of one at random, or of one that is asked for, is revealed"""


@dataclass(frozen=True)
class Layered(Encoder):
    """The encoder, with the normalisation layers of the graph, for running statistics."""

    graph: GraphNetwork

    @property
    def norm_layers(self) -> dict[str, int]:
        return {**self.network.norm_layers, **self.graph.norm_layers}


@dataclass(frozen=True)
class Vertices:
    """Those that all graphs of a task have.

    Attributes:
        x: [S + U, F], examples with labels and without.
        hidden: the ones without, whose labels may be asked for; None: nothing is to be asked.
        draw: in (0, 1), which label is asked for; None: the one preferred.
    """

    x: Tensor
    hidden: Unlabeled | None = None
    draw: Tensor | None = None


@dataclass(frozen=True)
class GNN(EmbeddingLearner):
    """What queries are compared with are the :class:`Vertices` of support and unlabeled examples.

    Attributes:
        attention: two layers, from a vertex after the first convolution to a number.
        hidden, draw: of the task that it is bound to; see :meth:`bound`.
    """

    options: Options
    embedding: Linear
    graph: GraphNetwork
    attention: tuple[Linear, Linear]
    hidden: Unlabeled | None = field(default=None, kw_only=True)
    draw: Tensor | None = field(default=None, kw_only=True)

    @property
    def estimator(self) -> Estimator:
        return "straight-through" if self.options.unlabeled == "asked" else "exact"

    @property
    def asks(self) -> bool:
        """Whether labels are revealed."""
        return self.options.unlabeled in ("random", "asked")

    @property
    def needs(self) -> frozenset[str]:
        if self.options.unlabeled == "ignored":
            return frozenset()
        return frozenset({"unlabeled", "unlabeled_y"} if self.asks else {"unlabeled"})

    @property
    def normalisation(self) -> Normalisation:
        """Layers of both networks."""
        return Normalisation(Layered(self.encoder.network, self.graph), per_step=False)

    def init(self, key: Key) -> Params:
        """Those of the encoder, and of what stands above it."""
        parts: list[Linear | GraphNetwork] = [self.embedding, self.graph]
        own: Params = {}
        if self.options.unlabeled == "asked":
            parts += self.attention
        if self.asks:
            own[f"{PREFIX}.asked.weight"] = torch.ones(())
        above = {n: p for part in parts for n, p in part.init(key).items()}
        return {**self.encoder.init(key), **above, **own}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """A number in (0, 1) where a label is drawn."""
        found, drawn = super().noise(key, ctx), self.options.unlabeled == "random"
        if drawn or (self.options.unlabeled == "asked" and ctx.phase == "train"):
            found["asked"] = key.fold("asked").uniform((), torch.float64)
        return found

    def bound(self, task: Task, ctx: Context) -> tuple[GNN, Task]:
        """This learner bound to the unlabeled examples of a task, which join the support set.

        Their labels there are N, of none of the ways. What is bound is left as it is.
        """
        if self.options.unlabeled == "ignored" or self.hidden is not None:
            return self, task
        support, hidden = task.support, task.unlabeled
        none = torch.full_like(support.y[:1], self.ways).expand(len(hidden))
        joined = Examples(torch.cat([support.x, hidden.x]), torch.cat([support.y, none]))
        return replace(self, hidden=hidden, draw=ctx.noise.get("asked")), task.with_support(joined)

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Embedded]:
        learner, joined = self.bound(task, ctx)
        return super(GNN, learner).adapt(params, joined, ctx)

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        learner, joined = self.bound(task, ctx)
        return super(GNN, learner).loss(params, joined, ctx)

    def vertices(self, params: Params, features: Tensor, labels: Tensor) -> Tensor:
        """[n, F] of features [n, D] with labels int64 [n]; of none of the ways: uniform."""
        known = members(labels, self.ways).T.to(features.dtype)
        unknown = 1 - known.sum(1, keepdim=True)
        return torch.cat([self.embedding(params, features), known + unknown / self.ways], 1)

    def known(self, params: Params, features: Tensor, labels: Tensor) -> Vertices:
        x = self.vertices(params, features, labels)
        return Vertices(x, self.hidden if self.asks else None, self.draw)

    def asked(self, params: Params, x: Tensor, known: Vertices) -> Tensor:
        """What labels that are asked for add to vertices x [G, V, F] after the first convolution.

        [G, V, N]; zeros but for one vertex of each graph.
        """
        assert known.hidden is not None
        size = len(known.hidden)
        # Those without labels stand between the support set and the query.
        unlabeled = x[:, -1 - size : -1]
        if self.options.unlabeled == "asked":
            first, second = self.attention
            scores = second(params, torch.tanh(first(params, unlabeled)))[..., 0]
        else:
            scores = x.new_zeros(len(x), size)
        shares = scores.softmax(1)
        chosen = shares.argmax(1) if known.draw is None else drawn(shares, known.draw)
        place = torch.arange(size, device=x.device) == chosen[:, None]
        share = (shares * place).sum(1)
        # Its value is 1 to the bit, and its derivative that of the probability.
        weight = params[f"{PREFIX}.asked.weight"] * (1 + (share - share.detach()))
        labels = members(known.hidden.reveal(chosen), self.ways).T.to(x.dtype)
        added = (weight[:, None] * labels)[:, None] * place[..., None].to(x.dtype)
        before = x.new_zeros(len(x), x.shape[1] - 1 - size, self.ways)
        return torch.cat([before, added, x.new_zeros(len(x), 1, self.ways)], 1)

    def compared(
        self, params: Params, known: Vertices, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Logits at each query, in a graph of its own."""
        statistics: Statistics = {}
        *_, x = self.layers(params, known, queries, norm, statistics)
        return self.graph.last(params, x, norm, statistics)[:, -1], statistics

    def layers(
        self, params: Params, known: Vertices, queries: Tensor, norm: Norm, out: Statistics
    ) -> Iterator[Tensor]:
        """Vertices [Q, V, F] that each convolution is given, the last one included."""
        nothing = torch.full((len(queries),), self.ways, device=queries.device)
        own = self.vertices(params, queries, nothing)[:, None]
        x = torch.cat([known.x.expand(len(own), -1, -1), own], 1)
        for layer in range(self.graph.layers):
            yield x
            x = self.graph.convolved(params, x, layer, norm, out)
            if layer == 0 and known.hidden is not None:
                start = self.embedding.outputs
                label = x[..., start : start + self.ways] + self.asked(params, x, known)
                x = torch.cat([x[..., :start], label, x[..., start + self.ways :]], 2)
        yield x

    def explained(self, fitted: Embedded, queries: Tensor) -> Explanation:
        """The adjacency of each convolution, and of it what the query hears."""
        params, norm = fitted.params, fitted.norm
        given = self.layers(params, fitted.known, queries, norm, {})
        adjacency = {
            f"convolution {layer + 1}": self.graph.adjacency(layer)(params, x, norm, {})
            for layer, x in enumerate(given)
        }
        heard = {name: of[:, -1, :-1] for name, of in adjacency.items()}
        return Explanation(fitted.features, queries, attention=heard, adjacency=adjacency)

    def own_statistics(self, params: Params, known: Vertices, features: Tensor) -> Statistics:
        """Of graphs whose query is an example of the support set, in which nothing is asked."""
        silent = Vertices(known.x)
        return self.compared(params, silent, features, Norm("batch", record=True))[1]


def drawn(shares: Tensor, draw: Tensor) -> Tensor:
    """One of each row's places, int64 [G], by its shares [G, U], by one number in (0, 1)."""
    graphs = torch.arange(len(shares), device=shares.device, dtype=torch.float64)
    at = (draw + GOLDEN * graphs) % 1
    passed = shares.detach().double().cumsum(1) <= at[:, None]
    return passed.sum(1).clamp(max=shares.shape[1] - 1)


def build(parts: Parts[Options]) -> GNN:
    encoder, options, ways = parts.encoder, parts.options, parts.shape.ways
    features = math.prod(feature_shape(encoder, parts.shape.inputs))
    graph = GraphNetwork(PREFIX, options.embedding + ways, ways, options.width)
    size = graph.size(1)
    return GNN(
        objective=parts.objective,
        encoder=encoder,
        ways=ways,
        options=options,
        embedding=Linear(f"{PREFIX}.embedding", features, options.embedding),
        graph=graph,
        attention=(
            Linear(f"{PREFIX}.attention.1", size, options.width),
            # A bias would add the same to all.
            Linear(f"{PREFIX}.attention.2", options.width, 1, bias=False),
        ),
    )
