"""Objectives against closed forms, in float64; what is pooled; how metrics are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist import objectives
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.objectives import ACCURACY, BUILT_IN, MSE, NLL, Metric, Objective, known_metric
from metadist.objectives.classification import Classification
from metadist.objectives.density import CENTRAL_95, Density
from metadist.objectives.one_hot_mse import OneHotMSE
from metadist.objectives.regression import Regression
from metadist.tasks import Examples, Prediction, TaskShape
from tests.numerics.reference import CLOSED_FORM, DIFFERENCES, EPS

N, E, WAYS = 5, 2, 3
VALUES, LABELS = TaskShape((1,), E), TaskShape((4,), WAYS, WAYS)


def numbers(name: str, *shape: int) -> Tensor:
    return Key.of("objectives", name).normal(shape, torch.float64)


def predicted(name: str = "a") -> Prediction:
    return Prediction(numbers(f"{name} mean", N, E), 0.3 + numbers(f"{name} scale", N, E).abs())


def targets() -> Examples:
    return Examples(y=numbers("y", N, E))


def logits(name: str = "a") -> Prediction:
    return Prediction(numbers(f"{name} logits", N, WAYS))


def labels() -> Examples:
    return Examples(y=torch.tensor([0, 2, 1, 1, 2]))


def near(a: Any, b: Any, tolerance: float = CLOSED_FORM) -> None:
    assert float(a) == pytest.approx(float(b), rel=tolerance, abs=tolerance)


# --- density --------------------------------------------------------------------------------------


def flat(p: Prediction, target: Examples) -> list[tuple[float, float, float]]:
    """Mean, scale and target of each number."""
    assert p.scale is not None
    columns = (t.reshape(-1).tolist() for t in (p.mean, p.scale, target.y))
    return list(zip(*columns, strict=True))


def check_density() -> None:
    """The negative log-likelihood of a normal distribution, by its density."""
    p, target = predicted(), targets()
    likelihoods = [
        math.exp(-(((y - m) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
        for m, s, y in flat(p, target)
    ]
    wanted = -math.fsum(map(math.log, likelihoods)) / len(likelihoods)
    near(Density().loss(p, target), wanted)
    scores = Density().score(p, target)
    assert list(scores) == ["nll", "mse"]
    near(scores["nll"], wanted)
    near(scores["mse"], math.fsum((m - y) ** 2 for m, _, y in flat(p, target)) / (N * E))


def check_slopes() -> None:
    """d/dm = (m - y) / s^2, d/ds = 1 / s - (y - m)^2 / s^3, each over the count."""
    p, target = predicted(), targets()
    assert p.scale is not None
    mean, scale = p.mean.clone().requires_grad_(), p.scale.clone().requires_grad_()
    found = torch.autograd.grad(Density().loss(Prediction(mean, scale), target), [mean, scale])
    rows = flat(p, target)
    wanted = (
        [(m - y) / s**2 / (N * E) for m, s, y in rows],
        [(1 / s - (y - m) ** 2 / s**3) / (N * E) for m, s, y in rows],
    )
    for got, one in zip(found, wanted, strict=True):
        assert got.reshape(-1).tolist() == pytest.approx(one, rel=CLOSED_FORM)


def test_density_is_the_likelihood_of_a_normal_distribution():
    check_density()
    check_slopes()


def variance(self: Density, p: Prediction, target: Examples) -> Tensor:
    return RIGHT(self, Prediction(p.mean, self.scale_of(p).sqrt()), target)


def whole(self: Density, p: Prediction, target: Examples) -> Tensor:
    return 2 * RIGHT(self, p, target)


def without_pi(self: Density, p: Prediction, target: Examples) -> Tensor:
    return RIGHT(self, p, target) - math.log(2 * math.pi) / 2


RIGHT = Density.loss


@pytest.mark.parametrize("wrong", [variance, whole, without_pi])
def test_another_density_is_noticed(wrong: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Density, "loss", wrong)
    with pytest.raises(AssertionError):
        check_density()
    if wrong is not without_pi:
        with pytest.raises(AssertionError):
            check_slopes()


def test_the_true_scale_is_the_best():
    mean = torch.zeros(1, 1).double()
    target = Examples(y=torch.full((1, 1), 0.7).double())
    losses = [
        float(Density().loss(Prediction(mean, torch.full((1, 1), s).double()), target))
        for s in (0.5, 0.7, 0.9)
    ]
    assert losses[1] == min(losses)


def test_the_central_interval_has_ninety_five_percent():
    assert math.erf(CENTRAL_95 / math.sqrt(2)) == pytest.approx(0.95, abs=1e-15)


def test_coverage_counts_values_inside():
    scale = torch.tensor([[0.5, 2.0], [1.0, 1.0], [3.0, 0.1]], dtype=torch.float64)
    away = torch.tensor([[0.0, 1.9], [-1.95, 1.97], [-3.0, 1.0]], dtype=torch.float64)
    counts = Density().counts(
        Prediction(torch.ones(3, 2).double(), scale), Examples(y=1 + away * scale)
    )
    assert {n: int(c) for n, c in counts.items()} == {"covered": 4, "values": 6}
    assert Density().pooled(counts) == {"coverage_95": 4 / 6}
    assert math.isnan(Density().pooled({n: 0 * c for n, c in counts.items()})["coverage_95"])


def test_a_density_needs_a_scale():
    with pytest.raises(RecipeError, match="objective 'density' judges a predicted scale"):
        Density().loss(Prediction(torch.zeros(1, 1)), Examples(y=torch.zeros(1, 1)))


# --- the others -----------------------------------------------------------------------------------


def test_classification_is_cross_entropy_and_the_fraction_that_is_right():
    p, target = logits(), labels()
    rows = list(zip(p.mean.tolist(), target.y.tolist(), strict=True))
    wanted = [math.log(math.fsum(map(math.exp, row))) - row[y] for row, y in rows]
    near(Classification().loss(p, target), math.fsum(wanted) / N)
    right = sum(row.index(max(row)) == y for row, y in rows)
    assert float(Classification().score(p, target)["accuracy"]) == right / N
    tied = Prediction(torch.zeros(3, WAYS).double())
    got = Classification().score(tied, Examples(y=torch.tensor([0, 1, 0])))["accuracy"]
    near(got, 2 / 3)


def test_regression_is_the_mean_squared_error():
    p, target = Prediction(numbers("mean", N, E)), targets()
    pairs = zip(p.mean.reshape(-1).tolist(), target.y.reshape(-1).tolist(), strict=True)
    wanted = math.fsum((a - b) ** 2 for a, b in pairs) / (N * E)
    near(Regression().loss(p, target), wanted)
    assert torch.equal(Regression().score(p, target)["mse"], Regression().loss(p, target))


OBJECTIVES: dict[str, tuple[Objective, Callable[[str], Prediction], Callable[[], Examples]]] = {
    "classification": (Classification(), logits, labels),
    "regression": (Regression(), lambda name: Prediction(numbers(name, N, E)), targets),
    "density": (Density(), predicted, targets),
    "one_hot_mse": (OneHotMSE(), logits, labels),
}
each_objective = pytest.mark.parametrize("name", objectives.names())


def test_every_objective_is_looked_at():
    assert set(OBJECTIVES) == set(objectives.names())


@each_objective
def test_what_an_objective_announces_is_what_it_gives(name: str):
    objective, predict, target = OBJECTIVES[name]
    p, examples = predict("a"), target()
    assert objective.name == name
    scores = objective.score(p, examples)
    assert list(scores) == [metric.name for metric in objective.metrics]
    assert all(s.shape == () and s.dtype == torch.float64 for s in scores.values())
    counts = objective.counts(p, examples)
    assert {n: tuple(c.shape) for n, c in counts.items()} == dict(objective.count_shapes)
    assert all(c.dtype == torch.int64 for c in counts.values())
    assert all(isinstance(value, float) for value in objective.pooled(counts).values())
    assert set(objective.train_metrics) <= set(scores)
    mean = p.mean.requires_grad_()
    loss, metrics = objective.loss_and_metrics(Prediction(mean, p.scale), examples)
    assert loss.requires_grad
    assert list(metrics) == ["loss", *objective.train_metrics]
    assert not any(m.requires_grad for m in metrics.values())


@each_objective
def test_the_slope_of_a_loss_is_its_difference(name: str):
    objective, predict, target = OBJECTIVES[name]
    p, examples = predict("a"), target()
    for part, tensor in p.tensors().items():
        at = tensor.clone().requires_grad_()
        (slope,) = torch.autograd.grad(
            objective.loss(Prediction(**{**p.tensors(), part: at}), examples), at
        )
        direction = numbers(f"{name} {part}", *tensor.shape)
        ends = [
            float(
                objective.loss(
                    Prediction(**{**p.tensors(), part: tensor + s * direction}), examples
                )
            )
            for s in (EPS, -EPS)
        ]
        wanted = (ends[0] - ends[1]) / (2 * EPS)
        assert abs(float((slope * direction).sum()) - wanted) <= DIFFERENCES * float(slope.norm())


@each_objective
def test_the_order_of_examples_means_nothing(name: str):
    objective, predict, target = OBJECTIVES[name]
    p, examples, order = predict("a"), target(), torch.tensor([3, 1, 4, 0, 2])
    turned = Prediction(**{n: t[order] for n, t in p.tensors().items()})
    other = examples.with_y(examples.y[order])
    near(objective.loss(turned, other), objective.loss(p, examples))
    for metric, score in objective.score(p, examples).items():
        near(objective.score(turned, other)[metric], score)
    for count, value in objective.counts(p, examples).items():
        assert torch.equal(objective.counts(turned, other)[count], value)


@each_objective
def test_a_perfect_prediction_is_better(name: str):
    objective, predict, target = OBJECTIVES[name]
    p, examples = predict("a"), target()
    if examples.y.is_floating_point():
        perfect = Prediction(examples.y, p.scale)
    else:
        perfect = Prediction(10.0 * torch.nn.functional.one_hot(examples.y, WAYS).double())
    for metric in objective.metrics:
        good, bad = (float(objective.score(x, examples)[metric.name]) for x in (perfect, p))
        assert metric.better(good, bad)
        assert not metric.better(bad, good)
        assert not metric.better(good, good)


def test_averages():
    one, two = logits("a"), logits("b")
    both = [one, two]
    got = Classification().average(both, "logits").mean
    near((got - (one.mean + two.mean) / 2).abs().max(), 0)
    chances = torch.stack([p.mean.softmax(-1) for p in both]).mean(0)
    got = Classification().average(both, "probabilities").mean
    near((got.exp() - chances).abs().max(), 0)
    assert float((got - chances.log()).abs().max()) < 1e-12
    alone = Classification().average([one], "logits").mean
    assert torch.equal(alone, one.mean)
    found = Density().average([predicted("a"), predicted("b")], "values")
    assert found.scale is not None
    means, scales = (
        torch.stack([t for n in "ab" if (t := getattr(predicted(n), part)) is not None])
        for part in ("mean", "scale")
    )
    near((found.mean - means.mean(0)).abs().max(), 0)
    # The law of total variance: within the members, and between them.
    variance = (scales**2).mean(0) + means.var(0, unbiased=False)
    near((found.scale - variance.sqrt()).abs().max(), 0)
    draws = [replace(predicted(n), samples=numbers(n, m, N, E)) for n, m in (("a", 2), ("b", 3))]
    together = Density().average(draws, "values").samples
    assert together is not None
    assert together.shape == (5, N, E)
    # One that says no scale leaves none to average.
    assert Density().average([predicted(), Prediction(numbers("m", N, E))], "values").scale is None
    assert Regression.averages == ("values",)
    assert Classification.averages == ("probabilities", "logits")


# --- examples that count --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "prediction", "target"),
    [
        (Classification(), logits(), labels()),
        (Regression(), predicted(), targets()),
        (Density(), predicted(), targets()),
    ],
    ids=["classification", "regression", "density"],
)
def test_examples_that_do_not_count_are_left_out(objective, prediction, target):
    mask = torch.tensor([True, False, True, True, False])
    masked = Examples(y=target.y, mask=mask)
    kept = Prediction(**{name: t[mask] for name, t in prediction.tensors().items()})
    alone = Examples(y=target.y[mask])
    near(objective.loss(prediction, masked), objective.loss(kept, alone))
    for name, score in objective.score(kept, alone).items():
        near(objective.score(prediction, masked)[name], score)
    for name, count in objective.counts(kept, alone).items():
        assert torch.equal(objective.counts(prediction, masked)[name], count)
    whole = Examples(y=target.y, mask=torch.ones(N, dtype=torch.bool))
    near(objective.loss(prediction, whole), objective.loss(prediction, target))


# --- which one ------------------------------------------------------------------------------------


def test_the_objective_is_that_of_the_targets_unless_one_is_named():
    assert isinstance(objectives.build("", {}, LABELS), Classification)
    assert isinstance(objectives.build("", {}, VALUES), Regression)
    assert isinstance(objectives.build("density", {}, VALUES), Density)
    for name, shape, words in (
        ("density", LABELS, "objective 'density' is about values, the tasks have labels"),
        ("classification", VALUES, "is about labels, the tasks have values"),
        ("densitie", VALUES, "Did you mean 'density'"),
    ):
        with pytest.raises(RecipeError, match=words):
            objectives.build(name, {}, shape)
    with pytest.raises(RecipeError, match=r"unknown key 'objective\.scale'"):
        objectives.build("density", {"scale": 1}, VALUES)


# --- metrics --------------------------------------------------------------------------------------

AREA = Metric("area", "area under the curve", higher_is_better=True)


def test_which_value_is_better():
    assert ACCURACY.better(0.5, 0.4)
    assert not ACCURACY.better(0.4, 0.5)
    for metric in (MSE, NLL):
        assert metric.better(-0.4, 0.5)
        assert not metric.better(0.5, 0.4)
    for metric in (*BUILT_IN.values(), AREA):
        assert not metric.better(1.0, 1.0)
        assert not metric.better(math.nan, 1.0)
        assert not metric.better(1.0, math.nan)
        assert metric.better(1.0, metric.worst)
        assert not metric.better(metric.worst, 1.0)


def test_what_a_failed_episode_scores():
    assert (ACCURACY.failed, ACCURACY.leaves_out_failed) == (0.0, False)
    assert all(metric.leaves_out_failed for metric in (MSE, NLL, AREA))
    assert (AREA.worst, MSE.worst) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "wrong",
    [
        {"higher_is_better": "false"},
        {"percent": 1},
        {"name": "a\nb"},
        {"name": ""},
        {"name": 81 * "a"},
        {"name": 3},
        {"title": None},
        {"measures": "luck"},
        {"failed": "x"},
    ],
)
def test_a_record_that_is_no_metric_is_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        Metric.read(AREA.as_dict() | wrong)


def test_what_a_metric_measures_is_no_other_metric():
    right = replace(AREA, measures="right")
    assert Metric.read(right.as_dict()).measures == "right"
    assert Metric.read(AREA.as_dict()).measures == ""
    assert "measures" not in AREA.as_dict()
    assert right == AREA  # as strangers have written the built-in ones


def test_a_metric_survives_its_record():
    for metric in (*BUILT_IN.values(), AREA):
        again = Metric.read(metric.as_dict())
        assert str(again) == str(metric)
        assert known_metric(metric.name, metric.as_dict()).as_dict() == metric.as_dict()
    # What is built in is not described by a record.
    assert known_metric("mse", AREA.as_dict()) is MSE
    for recorded in (None, {"name": "other"}):
        with pytest.raises(ValueError, match="metric 'area'"):
            known_metric("area", recorded)
