"""Scores of classes that are judged one by one, against the closed form."""

from __future__ import annotations

import math

import pytest
import torch

from metadist.keys import Key
from metadist.objectives.classification import Classification
from metadist.objectives.one_hot_mse import OneHotMSE
from metadist.tasks import Examples, Prediction
from tests.numerics.reference import CLOSED_FORM

N, WAYS = 5, 3
LOGITS = Prediction(Key.of("objectives", "scores").normal((N, WAYS), torch.float64))
LABELS = Examples(y=torch.tensor([0, 2, 1, 1, 2]))


def check() -> None:
    rows = zip(LOGITS.mean.tolist(), LABELS.y.tolist(), strict=True)
    wanted = [
        (1 / (1 + math.exp(-z)) - float(way == y)) ** 2
        for row, y in rows
        for way, z in enumerate(row)
    ]
    got = float(OneHotMSE().loss(LOGITS, LABELS))
    assert got == pytest.approx(math.fsum(wanted) / (N * WAYS), rel=CLOSED_FORM)


def test_the_loss_is_the_squared_error_of_every_score():
    check()
    right = Classification().score(LOGITS, LABELS)["accuracy"]
    assert torch.equal(OneHotMSE().score(LOGITS, LABELS)["accuracy"], right)


def test_scores_of_a_softmax_are_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.Tensor, "sigmoid", lambda z: z.softmax(-1))
    with pytest.raises(AssertionError):
        check()


def test_what_is_masked_does_not_count():
    seen = torch.tensor([True, False, True, True, False])
    few, rest = Prediction(LOGITS.mean[seen]), Examples(y=LABELS.y[seen])
    masked = Examples(y=LABELS.y, mask=seen)
    got, wanted = (OneHotMSE().loss(*given) for given in ((LOGITS, masked), (few, rest)))
    assert float(got) == pytest.approx(float(wanted), rel=CLOSED_FORM)
