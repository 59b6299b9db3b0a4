"""What learners tell of their predictions has the form that records and reports count on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from metadist.contracts.learner import declared
from metadist.contracts.settings import LABELS, Setting, Where, make
from metadist.learner import Learner
from tests.contract.cases import ALGORITHMS, Options, switched

#: On a small network, with features of 6 numbers.
WHERE = Where("mlp", {"hidden": 6, "activation": "tanh"}, LABELS)
#: Learners that compare features have some to show.
EXPLAINING = ["gnn", "matching", "nearest_embedding", "protonet", "relation", "snail"]


def explains(setting: Setting) -> bool:
    """Whether it says anything."""
    return type(setting.learner).explanation is not Learner.explanation


def with_options(algorithm: str, options: Options) -> Setting:
    return make(algorithm, replace(WHERE, part_options=dict(options)))


@pytest.mark.parametrize("algorithm", EXPLAINING)
def test_explanations_have_their_form(algorithm: str):
    for options in ((), *switched(algorithm)):
        setting = with_options(algorithm, options)
        assert explains(setting)
        assert list(declared.explanation(setting)) == []


def test_others_explain_nothing():
    others = [a for a in ALGORITHMS if a not in EXPLAINING]
    assert {"maml", "cnp", "finetune"} < {*others}
    assert not explains(make("maml", WHERE))


def test_another_form_is_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = with_options("matching", ())
    right = type(setting.learner).explanation
    mistakes = {
        "support": lambda told: replace(told, support=told.support[:, :-1]),
        "query": lambda told: replace(told, query=told.query[:-1]),
        "prototypes": lambda told: replace(told, prototypes=told.support[:1]),
        "attention": lambda told: replace(told, attention={"a": told.query}),
        "sum": lambda told: replace(told, attention={n: 2 * a for n, a in told.attention.items()}),
        "sign": lambda told: replace(
            told, attention={n: a - 0.5 for n, a in told.attention.items()}
        ),
        "adjacency": lambda told: replace(told, adjacency={"a": torch.zeros(6, 7, 6)}),
    }
    for mistake in mistakes.values():
        monkeypatch.setattr(
            type(setting.learner),
            "explanation",
            lambda *given, wrong=mistake: wrong(right(*given)),
        )
        assert list(declared.explanation(setting))
