"""Few steps of gradient descent in linear regression are the posterior mean under a Gaussian prior.

Grant, Finn, Levine, Darrell & Griffiths, "Recasting Gradient-Based Meta-Learning as Hierarchical
Bayes", ICLR 2018, section 3.1, after Santos, 1996. With X'X = O diag(l) O', k steps of size a on
|Xw - y|^2 / 2 from theta give the w that maximises the posterior of w ~ N(theta, Q), y ~ N(Xw, 1),
where

    Q = O diag(((1 - a l)^-k - 1) / l) O'      (a k where l = 0)

The inner loop descends on |Xw - y|^2 / n, so that a = 2 / n times its step size.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metadist.keys import Key
from metadist.tasks import Examples, Task
from tests.numerics.reference import CLOSED_FORM, OTHER, distance
from tests.numerics.test_linear_regression import DIMENSIONS, context, learner

LR = 0.05
#: More examples than dimensions, and fewer, where the support leaves directions undetermined.
EXAMPLES = (6, 2)
STEPS = (1, 3, 20)


def data(examples: int) -> tuple[Tensor, Tensor, Tensor]:
    """X, y and theta."""
    key = Key.of("early stopping")
    shapes = {"x": (examples, DIMENSIONS), "y": (examples, 1), "theta": (DIMENSIONS, 1)}
    x, y, theta = (key.fold(n).normal(shape, torch.float64) for n, shape in shapes.items())
    return x, y, theta


def stopped(examples: int, steps: int) -> Tensor:
    """What the inner loop gives."""
    x, y, theta = data(examples)
    task = Task(Examples(x, y))
    fitted = learner(second_order=True).adapt({"w": theta}, task, context(steps, LR))
    return fitted[-1].params["w"].detach()


def posterior_mean(examples: int, steps: int, factor: float) -> Tensor:
    """theta + Q X' (X Q X' + 1)^-1 (y - X theta), with a = ``factor`` times the loop's."""
    x, y, theta = data(examples)
    values, vectors = torch.linalg.eigh(x.T @ x)
    a = factor * LR
    # expm1 and log1p keep the digits that eigenvalues near zero would cost.
    shrunk = torch.expm1(-steps * torch.log1p(-a * values)) / values
    variances = torch.where(values.abs() < 1e-10, torch.tensor(a * steps), shrunk)
    q = vectors @ torch.diag(variances) @ vectors.T
    gain = q @ x.T @ torch.linalg.inv(x @ q @ x.T + torch.eye(examples, dtype=torch.float64))
    return theta + gain @ (y - x @ theta)


def check(examples: int, steps: int, factor: float, shift: int = 0) -> None:
    got = stopped(examples, steps)
    wanted = posterior_mean(examples, steps + shift, factor)
    assert distance({"w": got}, {"w": wanted}) <= CLOSED_FORM


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("examples", EXAMPLES)
def test_early_stopping_is_a_gaussian_prior(examples: int, steps: int):
    check(examples, steps, 2 / examples)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_forgotten_half_is_noticed(examples: int):
    # |Xw - y|^2 in place of its half.
    with pytest.raises(AssertionError):
        check(examples, 3, 1 / examples)
    right, wrong = (posterior_mean(examples, 3, f / examples) for f in (2, 1))
    assert distance({"w": wrong}, {"w": right}) > OTHER


@pytest.mark.parametrize("examples", EXAMPLES)
def test_another_number_of_steps_is_noticed(examples: int):
    with pytest.raises(AssertionError):
        check(examples, 3, 2 / examples, shift=1)
