"""What an objective is held to: its loss, its scores, and what is summed of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist import objectives
from metadist.contracts import documentation
from metadist.contracts.differences import (
    EXACT,
    TOLERANCE,
    derivative,
    difference,
    distance,
    leaves_of,
    random_direction,
    slope,
)
from metadist.contracts.finding import Finding, Inspection, brief, first_this, found, not_together
from metadist.contracts.purity import impure
from metadist.contracts.settings import SEED
from metadist.discovery import find
from metadist.errors import MetadistError
from metadist.objectives import Metric, Objective
from metadist.overrides import Scalar
from metadist.tasks import Examples, Params, Prediction, Targets, TaskShape

EXAMPLES, DRAWS = 12, 4
SHAPES: dict[Targets, TaskShape] = {
    "labels": TaskShape((1, 4, 4), 4, 4, classes=8),
    "values": TaskShape((2,), 2),
}


@dataclass(frozen=True)
class Judged:
    """An objective with a prediction and what is right."""

    objective: Objective
    shape: TaskShape
    prediction: Prediction
    target: Examples

    def at(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The loss of a prediction of these tensors."""
        return self.objective.loss(Prediction(**parts), self.target)

    def both(self, prediction: Prediction, target: Examples | None = None) -> Params:
        """Loss and scores of a prediction."""
        aim = self.target if target is None else target
        scores = self.objective.score(prediction, aim)
        return {"loss": self.objective.loss(prediction, aim), **scores}

    @property
    def perfect(self) -> Prediction:
        """What is right, with confidence."""
        if self.shape.ways:
            return self._of(20.0 * F.one_hot(self.target.y, self.shape.ways).double())
        return self._of(self.target.y)

    @property
    def bad(self) -> Prediction:
        """What is wrong, with confidence."""
        if self.shape.ways:
            return self._of(self.perfect.mean.roll(1, 1))
        return self._of(self.target.y + 3.0)

    def _of(self, mean: Tensor) -> Prediction:
        scale = None if self.shape.ways else torch.full_like(mean, 0.3)
        spread = 0.3 * SEED.fold("spread").normal((DRAWS, *mean.shape), torch.float64)
        return Prediction(mean, scale, mean + spread - spread.mean(0))


def make(name: str, options: Mapping[str, Scalar], targets: Targets) -> Judged:
    """An objective for such targets; raises RecipeError where it is not about them."""
    shape = SHAPES[targets]
    objective = objectives.build(name, dict(options), shape)
    size = (EXAMPLES, shape.outputs)
    mean = SEED.fold("mean").normal(size, torch.float64)
    values = mean + SEED.fold("error").normal(size, torch.float64)
    y = torch.arange(EXAMPLES) * 7 % shape.ways if shape.ways else values
    scale = None if shape.ways else 0.5 + SEED.fold("scale").uniform(size, torch.float64)
    samples = mean + SEED.fold("draws").normal((DRAWS, *size), torch.float64)
    return Judged(objective, shape, Prediction(mean, scale, samples), Examples(y=y))


def declared(judged: Judged) -> Iterator[Finding]:
    """Its metrics, which stand in every result."""
    objective = judged.objective
    metrics = objective.metrics
    if not metrics or not all(isinstance(metric, Metric) for metric in metrics):
        yield found(
            "metrics, each a metadist.objectives.Metric, the one that decides first",
            repr(metrics),
            "write metrics = (Metric('name', 'title', higher_is_better=False),)",
        )
        return
    names = [metric.name for metric in metrics]
    if odd := [name for name in objective.train_metrics if name not in names]:
        yield found("train_metrics among the metrics", ", ".join(odd), "list them in metrics")
    if not objective.averages:
        yield found("averages of one way or more", "none", "leave it out for ('values',)")
    for metric in metrics:
        known = objectives.BUILT_IN.get(metric.name)
        if known is not None and known != metric:
            yield found(
                f"{metric.name!r} as metadist knows it: {known}",
                metric,
                f"take metadist.objectives.{metric.name.upper()}, or another name",
            )


def _no_scalar(value: object) -> str:
    """What a value is, if it is no finite scalar tensor."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.shape != ():
        return f"a tensor {list(value.shape)}"
    return "" if bool(value.isfinite()) else f"{value.item()}"


def loss(judged: Judged) -> Iterator[Finding]:
    """A scalar that a gradient can be taken of, right by central differences."""
    tensors = judged.prediction.tensors()
    value = judged.at(tensors)
    if odd := _no_scalar(value):
        yield found("a finite scalar", odd, "return the mean over the examples")
        return
    for kind in (torch.float32, torch.float64):
        own = Prediction(**{n: t.to(kind) for n, t in tensors.items()})
        y = judged.target.y
        aim = Examples(y=y.to(kind) if y.is_floating_point() else y)
        if (got := judged.objective.loss(own, aim).dtype) != kind:
            yield found(f"a loss {kind} of {kind}", got, "make new tensors like those given")
    leaves = leaves_of(tensors)
    at = judged.at(leaves)
    if not at.requires_grad:
        yield found(
            "a loss that depends on the prediction by a gradient",
            "a constant",
            "leave out detach() and item()",
        )
        return
    gradients, along = derivative(at, leaves), random_direction(tensors, SEED)
    measured, said = difference(judged.at, tensors, along), slope(gradients, along)
    if measured is not None and abs(said - measured) > TOLERANCE * max(1.0, abs(measured)):
        yield found(
            "the gradient of the loss as by central differences",
            f"{said:.6g} where they are {measured:.6g}",
            "look for detach() and for numbers taken out of tensors",
        )
    if not bool(gradients["mean"].any()):
        yield found("a loss that depends on Prediction.mean", "a gradient of 0", "use it")


def fused(judged: Judged) -> Iterator[Finding]:
    """What kernels know the loss as is what it is."""
    kind, (mean, y) = judged.objective.fused, (judged.prediction.mean, judged.target.y)
    if kind is None:
        return
    wanted = F.cross_entropy(mean, y) if kind == "cross_entropy" else F.mse_loss(mean, y)
    if abs(float(judged.at(judged.prediction.tensors()) - wanted)) > EXACT:
        yield found(f"a loss that is the mean {kind}, as fused says", "another", "set fused = None")


def vmap(judged: Judged) -> Iterator[Finding]:
    """Losses and scores of several tasks at once."""
    tensors = judged.prediction.tensors()
    twice = {n: torch.stack([t, 2 * t]) for n, t in tensors.items()}
    try:
        got = torch.func.vmap(lambda parts: judged.both(Prediction(**parts)))(twice)
    except Exception as error:
        what = "loss and score that engine.mode = 'vmap' can take of several tasks at once"
        yield not_together(what, error)
        return
    wanted = judged.both(Prediction(**{n: 2 * t for n, t in tensors.items()}))
    if distance({n: v[1] for n, v in got.items()}, wanted) > EXACT:
        yield found("the same under vmap", "other numbers", "see what is computed across tasks")


def pure(judged: Judged) -> Iterator[Finding]:
    """Loss and score draw nothing, keep nothing and change nothing."""
    given = judged.prediction.tensors(), judged.target
    mend = "draw nothing, keep nothing, and change nothing in place"
    both = "loss and score"
    yield from impure(both, lambda: judged.both(judged.prediction), given, judged.objective, mend)


def score(judged: Judged) -> Iterator[Finding]:
    """Each of ``metrics``, scalars."""
    objective = judged.objective
    got = objective.score(judged.prediction, judged.target)
    names = [metric.name for metric in objective.metrics]
    if sorted(got) != sorted(names):
        yield found(f"a score of each of metrics, {names}", sorted(got), "return exactly those")
    odd = [f"{n}: {what}" for n, v in got.items() if (what := _no_scalar(v))]
    if odd:
        yield found(
            "scores that are finite scalar tensors", ", ".join(odd), "take the mean over examples"
        )


def mean(judged: Judged) -> Iterator[Finding]:
    """The loss of all examples twice is the loss of them once."""
    twice = judged.prediction.tensors()
    twice = {n: torch.cat([t, t], 1 if n == "samples" else 0) for n, t in twice.items()}
    target = judged.target.with_y(torch.cat([judged.target.y, judged.target.y]))
    once = float(judged.objective.loss(judged.prediction, judged.target))
    again = float(judged.objective.loss(Prediction(**twice), target))
    if abs(again - once) > EXACT * max(1.0, abs(once)):
        yield found(
            "a loss that is a mean: the same if every example is there twice",
            f"{again:.6g} instead of {once:.6g}",
            "divide by the number of examples, as .mean() does; step sizes depend on it",
        )


def order(judged: Judged) -> Iterator[Finding]:
    """The order of the examples changes nothing."""
    rows = torch.arange(EXAMPLES - 1, -1, -1)
    tensors = judged.prediction.tensors()
    turned = {n: t[:, rows] if n == "samples" else t[rows] for n, t in tensors.items()}
    prediction, target = Prediction(**turned), judged.target.with_y(judged.target.y[rows])
    apart = distance(judged.both(prediction, target), judged.both(judged.prediction))
    counts = judged.objective.counts(judged.prediction, judged.target)
    again = judged.objective.counts(prediction, target)
    if apart > EXACT or any(not torch.equal(c, again[n]) for n, c in counts.items()):
        yield found(
            "the same loss, scores and counts in any order of the examples",
            "others in another order",
            "treat examples alike",
        )


def counts(judged: Judged) -> Iterator[Finding]:
    """Integers of ``count_shapes``, from whose sums ``pooled`` makes floats."""
    objective = judged.objective
    got = objective.counts(judged.prediction, judged.target)
    shapes = {n: tuple(c.shape) for n, c in got.items()}
    declared_shapes = {n: tuple(s) for n, s in objective.count_shapes.items()}
    if shapes != declared_shapes:
        yield found(
            f"counts of count_shapes, {declared_shapes}", shapes, "declare what counts returns"
        )
    if odd := [f"{n} {c.dtype}" for n, c in got.items() if c.dtype != torch.int64]:
        yield found("counts int64", ", ".join(odd), "they are summed exactly; use .sum() of bools")
    sums = {n: 2 * c.to(torch.int64) for n, c in got.items()}
    for what, of in (("sums", sums), ("sums that are 0", {n: 0 * c for n, c in sums.items()})):
        pooled = objective.pooled(of)
        if odd := [n for n, v in pooled.items() if type(v) is not float]:
            yield found(f"floats of pooled({what})", ", ".join(odd), "return int(a) / int(b)")
        both = {metric.name for metric in objective.metrics} & pooled.keys()
        if both:
            yield found("pooled names that no metric has", ", ".join(sorted(both)), "rename them")


def average(judged: Judged) -> Iterator[Finding]:
    """The average of one prediction is judged as that prediction."""
    for how in judged.objective.averages:
        one = judged.objective.average([judged.prediction], how)
        if distance(judged.both(one), judged.both(judged.prediction)) > EXACT:
            yield found(
                f"the average ({how!r}) of one prediction to be judged as that one",
                "another loss or score",
                "keep all tensors of a prediction, and its scale",
            )
        judged.both(judged.objective.average([judged.prediction, judged.perfect], how))


def better(judged: Judged) -> Iterator[Finding]:
    """A right prediction is better than a wrong one, in the direction that metrics say."""
    right, wrong = judged.both(judged.perfect), judged.both(judged.bad)
    if not float(right["loss"]) < float(wrong["loss"]):
        yield found(
            "a lower loss of a right prediction than of a wrong one",
            f"{float(right['loss']):.4g} and {float(wrong['loss']):.4g}",
            "it is minimised: mind its sign",
        )
    for place, metric in enumerate(judged.objective.metrics):
        good, poor = float(right[metric.name]), float(wrong[metric.name])
        if not metric.better(good, poor):
            yield found(
                f"a better {metric.name!r} (higher_is_better = {metric.higher_is_better}) of a "
                "right prediction than of a wrong one",
                f"{good:.4g} and {poor:.4g}",
                "mind higher_is_better, and the sign of the score",
                "warning" if place else "error",
            )
        elif not math.isnan(metric.failed) and metric.better(metric.failed, poor):
            yield found(
                f"a failed episode to score no better than a wrong prediction, in {metric.name!r}",
                f"failed = {metric.failed:g}, which is better than {poor:.4g}",
                "leave failed out (such episodes are counted beside the mean), or say the worst",
            )
        if metric.percent and not (0 <= good <= 1 and 0 <= poor <= 1):
            yield found(
                f"fractions in [0, 1] of {metric.name!r}, which people read in percent",
                f"{good:.4g} and {poor:.4g}",
                "divide, or leave percent out",
            )


def bare(judged: Judged) -> Iterator[Finding]:
    """A prediction without scale or samples is judged, or refused in words."""
    mean = judged.prediction.mean
    try:
        judged.both(Prediction(mean))
    except MetadistError:
        return
    except Exception as error:
        yield found(
            "a learner that predicts no scale or samples to be judged, or refused by a RecipeError",
            brief(error),
            "raise metadist.errors.RecipeError, with what is needed, as objective 'density' does",
        )


#: Each is looked at if those before have found no error, for one mistake meets many checks.
STAGES = (
    (declared, pure),
    (loss,),
    (score,),
    (fused, mean, order, counts, average, better, bare, vmap),
)


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of an objective."""
    module = find(objectives, name, "objective")
    inspection.run((*documentation.CHECKS, _targets), module)
    for targets in get_args(Targets):
        if targets in module.TARGETS:
            build = partial(make, name, options, targets)
            judged = inspection.builds(build, targets, may_refuse=False)
            if judged and not all(inspection.run(stage, judged, targets) for stage in STAGES):
                inspection.add(first_this("a loss and scores, to look at what they depend on"))


def _targets(module: object) -> Iterator[Finding]:
    got = getattr(module, "TARGETS", ())
    if not got or isinstance(got, str) or not set(got) <= set(get_args(Targets)):
        yield found(
            "TARGETS, a tuple of 'labels', 'values' or both",
            repr(got),
            "write TARGETS = ('labels',)",
        )
