"""Memory-augmented neural networks: a task is a sequence, and a memory holds what was shown of it.

Santoro, Bartunov, Botvinick, Wierstra & Lillicrap, "Meta-Learning with Memory-Augmented Neural
Networks", ICML 2016. A controller meets the examples of a task one after the other, each with the
label of the one before it, writes to a memory, reads from it, and says which class each is:

    h_t = controller([f(x_t); y_{t-1}], r_{t-1});    r_t = memory(h_t);    logits = W [h_t; r_t] + b

In training support and queries are one sequence, in an order of its own in each task, and the loss
is the mean over all its places: the first example of a class is to be guessed, later ones are to
be known (:mod:`metadist.inner.blocks.sequence`). Elsewhere the support set is shown first, in the
order in which the task has it, and each query comes next by itself, so that none knows of another.
Sizes are the published ones by default: 200 units, 128 x 40 numbers of memory, 4 heads.

Not as published: images pass through the recipe's network f first (``embed = false``: they do not),
as in most later work; memory begins with equal small numbers, heads at its first row (released
re-implementations). A normalisation by the statistics of a batch takes a whole sequence as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from metadist.algorithms import Parts
from metadist.backbones import Layer, Norm, Output, Statistics
from metadist.context import Context
from metadist.discovery import Options as OptionsBase
from metadist.errors import RecipeError
from metadist.inner.backbone_wrapper import Encoder
from metadist.inner.blocks.codes import Codes, OneHot, Strings
from metadist.inner.blocks.linear import Linear
from metadist.inner.blocks.memory import LeastRecentlyUsed, Memory, NeuralTuring
from metadist.inner.blocks.recurrent import FeedForward, Past, Recurrent
from metadist.inner.blocks.sequence import one_later, order_noise, task_in_sequence
from metadist.inner.embedding.embedding_learner import Embedded, EmbeddingLearner
from metadist.inner.embedding.lstm import LSTM
from metadist.inner.embedding.shapes import feature_shape
from metadist.keys import Key
from metadist.learner import Loss
from metadist.tasks import Examples, Params, Prediction, Task

TARGETS = ("labels",)
#: What the names of its parameters begin with.
PREFIX = "mann."


class Options(OptionsBase):
    addressing: Literal["lrua", "ntm"] = "lrua"
    """how rows of the memory are found: those read last and the least recently used, or by content
    and place as in neural Turing machines"""
    controller: Literal["lstm", "feed_forward"] = "lstm"
    """with a state of its own, or none"""
    labels: Literal["one_hot", "strings"] = "one_hot"
    """a unit for each way, or a string of five letters, drawn in each task; with strings the number
    of ways may differ at test"""
    embed: bool = True
    """pass inputs through the network first (published: no)"""
    units: Annotated[int, Field(ge=1)] = 200
    """of the controller"""
    memory_rows: Annotated[int, Field(ge=1)] = 128
    """of the memory"""
    memory_width: Annotated[int, Field(ge=1)] = 40
    """numbers in a row"""
    heads: Annotated[int, Field(ge=1)] = 4
    """that read from the memory"""
    usage_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """what is left of a row's usage after a step; `addressing = "lrua"`"""
    sharp: bool = False
    """multiply similarities by a strength of each head, as neural Turing machines do (published:
    no); `addressing = "lrua"`"""
    separate: bool = False
    """write a vector of its own in the place of the key (released re-implementations: yes);
    `addressing = "lrua"`"""


@dataclass(frozen=True)
class Unembedded(Encoder):
    """Inputs as they are, in the place of a network's features."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return ()

    @property
    def norm_layers(self) -> dict[str, int]:
        return {}

    def init(self, key: Key) -> Params:
        """It has no parameters."""
        return {}

    def arranged(self, params: Params) -> Params:
        return params

    def forward(self, params: Params, x: Tensor, norm: Norm, **how: Any) -> Output:
        """Inputs [n, D] of examples [n, ...]."""
        flat = x.flatten(1)
        return Output(flat, flat, {}, {})

    def fused_value(
        self, params: Params, x: Tensor, norm: Norm, *, head: bool = False
    ) -> tuple[Tensor, Statistics] | None:
        return None


@dataclass(frozen=True)
class Shown:
    """What the support set has left.

    Attributes:
        past: of one sequence.
        label: [1, L], the code of its last example, which the next one comes with.
        codes: [N, L], of the ways.
    """

    past: Past
    label: Tensor
    codes: Tensor


@dataclass(frozen=True)
class MANN(EmbeddingLearner):
    """What queries come after is what the support set has left in controller and memory."""

    codes: Codes
    network: Recurrent
    answer: Linear

    @property
    def sums_losses(self) -> bool:
        """Its parameters are used at each example of a task."""
        return True

    @property
    def normalises(self) -> bool:
        """Without a network there is nothing to be normalised."""
        return not isinstance(self.encoder, Unembedded)

    def init(self, key: Key) -> Params:
        """Those of the encoder, and of what stands above it."""
        above = (part.init(key) for part in (self.network, self.answer))
        return {**self.encoder.init(key), **{n: p for some in above for n, p in some.items()}}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """Those of the codes, and in training the order of the examples."""
        order = {"order": order_noise(key)} if ctx.phase == "train" else {}
        return {**self.codes.noise(key), **order}

    def sequence(
        self, params: Params, examples: Examples, ctx: Context
    ) -> tuple[Tensor, Tensor, Statistics]:
        """Answers [T, L] to T examples in a row, codes [N, L], statistics of their embedding."""
        norm = self.normalisation.support(ctx)
        features, statistics = self.features(params, examples.x, norm, ctx)
        codes = self.codes.of_ways(ctx.noise, features)
        known, _ = self.network.whole(params, shown_later(features, codes[examples.y]))
        return self.answer(params, known), codes, statistics

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """In training that of a sequence of support and queries, else of the queries."""
        if ctx.phase != "train":
            return super().loss(params, task, ctx)
        examples = task_in_sequence(task, ctx.noise["order"])
        answers, codes, statistics = self.sequence(params, examples, ctx)
        value = self.codes.loss(self.objective, answers, codes, examples)
        prediction = Prediction(self.codes.logits(answers, codes))
        metrics = self.objective.reported(value, prediction, examples)
        return Loss(value, metrics, self.normalisation.sums([statistics]))

    def sequence_predictions(self, params: Params, examples: Examples, ctx: Context) -> Prediction:
        """See :class:`metadist.inner.blocks.sequence.PredictsSequences`."""
        answers, codes, _ = self.sequence(params, examples, ctx)
        return Prediction(self.codes.free_logits(answers, codes))

    def known(self, params: Params, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Both as they are: their codes are known where the task's random numbers are."""
        return features, labels

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Embedded]:
        """One element: what the support set has left, shown in the order of the task."""
        (embedded,) = super().adapt(params, task, ctx)
        features, labels = embedded.known
        codes = self.codes.of_ways(ctx.noise, features)
        shown = codes[labels]
        _, past = self.network.whole(params, shown_later(features, shown))
        return [replace(embedded, known=Shown(past, shown[-1:], codes))]

    def compared(
        self, params: Params, known: Shown, queries: Tensor, norm: Norm
    ) -> tuple[Tensor, Statistics]:
        """Logits of queries, each of which comes next."""
        inputs = torch.cat([queries, known.label.expand(len(queries), -1)], 1)
        after = self.network.last(params, inputs, known.past)
        return self.codes.logits(self.answer(params, after), known.codes), {}


def shown_later(features: Tensor, codes: Tensor) -> Tensor:
    """Inputs [T, D + L]: features [T, D], each with the code [T, L] of the label before it."""
    return torch.cat([features, one_later(codes)], 1)


def memory_of(options: Options) -> Memory:
    """The memory that options describe.

    Raises:
        RecipeError: they do not go together.
    """
    sizes = (options.units, options.memory_rows, options.memory_width, options.heads)
    if options.heads > options.memory_rows:
        raise RecipeError(
            f"algorithm.heads: at most algorithm.memory_rows, {options.memory_rows}, are possible, "
            f"got {options.heads}"
        )
    name = f"{PREFIX}memory"
    if options.addressing == "lrua":
        return LeastRecentlyUsed(
            name,
            *sizes,
            decay=options.usage_decay,
            separate=options.separate,
            sharp=options.sharp,
        )
    own = ("usage_decay", "sharp", "separate")
    if odd := [n for n in own if getattr(options, n) != Options.model_fields[n].default]:
        raise RecipeError(
            f"algorithm.addressing = 'ntm' knows no {', '.join(odd)}; leave it out, or take "
            "algorithm.addressing = 'lrua'"
        )
    return NeuralTuring(name, *sizes)


def build(parts: Parts[Options]) -> MANN:
    options, ways = parts.options, parts.shape.ways
    encoder = parts.encoder if options.embed else Unembedded(parts.backbone)
    inputs = parts.shape.inputs
    features = math.prod(feature_shape(encoder, inputs) if options.embed else inputs)
    memory = memory_of(options)
    codes: Codes = OneHot(ways) if options.labels == "one_hot" else Strings(ways)
    name, fed = f"{PREFIX}controller", features + codes.size
    controller: LSTM | FeedForward
    if options.controller == "lstm":
        controller = LSTM(name, fed, options.units, options.units + memory.reads)
    else:
        controller = FeedForward(name, fed, options.units, memory.reads)
    network = Recurrent(controller, memory)
    return MANN(
        objective=parts.objective,
        encoder=encoder,
        ways=ways,
        codes=codes,
        network=network,
        answer=Linear(f"{PREFIX}answer", network.outputs, codes.size),
    )
