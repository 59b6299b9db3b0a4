"""Learners that predict in sequence: what comes later changes no bit, and the check can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiers import one_in
from torch import Tensor

from metadist.errors import RecipeError
from metadist.inner.blocks import sequence
from metadist.inner.blocks.sequence import PredictsSequences, order_noise, task_in_sequence
from metadist.keys import Key
from metadist.tasks import Examples
from tests.contract.cases import ALGORITHMS, WAYS, Case, anywhere, built, switched, works_on
from tests.contract.setting import Setting, make

IN_SEQUENCE = [name for name in ALGORITHMS if isinstance(anywhere(name), PredictsSequences)]


def predictions(setting: Setting) -> tuple[Examples, Callable[[Examples], Tensor]]:
    """The examples of a task in a row, and what is predicted of such a row."""
    now = setting.at(phase="test")
    learner = now.algorithm
    assert isinstance(learner, PredictsSequences)

    def of(examples: Examples) -> Tensor:
        return learner.sequence_predictions(now.params, examples, now.task_ctx(0)).mean

    return task_in_sequence(now.tasks.task(0), order_noise(Key.of("row"))), of


def check_causal(setting: Setting) -> None:
    """Another label at a place changes no bit up to it, another input none before it; what comes
    later may change, and does somewhere."""
    shown, of = predictions(setting)
    whole, size = of(shown), len(shown)
    assert whole.shape in ((size, WAYS), (size, WAYS + 1))
    changed = [False, False]
    for place in range(0, size - 1, 2):
        labels, inputs = shown.y.clone(), shown.x.clone()
        labels[place] = (labels[place] + 1) % WAYS
        inputs[place] = inputs[place].flip(0) + 1
        relabelled, moved = of(shown.with_y(labels)), of(shown.with_x(inputs))
        assert torch.equal(relabelled[: place + 1], whole[: place + 1])
        assert torch.equal(moved[:place], whole[:place])
        changed[0] |= not torch.equal(relabelled, whole)
        changed[1] |= not torch.equal(moved, whole)
    assert all(changed)


def cases() -> list[Case]:
    """Each option of each of them, where it still predicts in sequence."""
    every = [
        Case(name, "mlp-relu", "none", options=options)
        for name in IN_SEQUENCE
        for options in ((), *switched(name))
        if works_on(name, "mlp-relu", options)
    ]
    return [case for case in every if isinstance(built(case), PredictsSequences)]


def test_some_learners_predict_in_sequence():
    assert {"mann", "nearest_embedding", "nearest_pixels"} <= set(IN_SEQUENCE)
    tuned = Case("nearest_embedding", "mlp-relu", "none", options=(("fine_tune", True),))
    assert not isinstance(built(tuned), PredictsSequences)


@pytest.mark.parametrize("case", one_in(2, cases()), ids=str)
def test_what_comes_later_is_not_known(case: Case):
    check_causal(make(case))


def test_running_normalisation_lets_nothing_through():
    check_causal(make(Case("mann", "conv4-stride", "running")))


@pytest.mark.parametrize("labels", ["one_hot", "strings"])
def test_labels_that_come_with_their_own_example_are_noticed(
    labels: str, monkeypatch: pytest.MonkeyPatch
):
    setting = make(Case("mann", "mlp-relu", "none", options=(("labels", labels),)))
    monkeypatch.setattr("metadist.algorithms.mann.one_later", lambda codes: codes)
    with pytest.raises(AssertionError):
        check_causal(setting)


def test_a_batch_of_all_examples_is_noticed():
    with pytest.raises(AssertionError):
        check_causal(make(Case("mann", "conv4-stride", "transductive")))


# --- the view -------------------------------------------------------------------------------------


def examples(count: int, first: int, mask: Tensor | None = None) -> Examples:
    x = torch.arange(first, first + count, dtype=torch.float64)[:, None]
    return Examples(x, torch.arange(first, first + count), mask=mask)


def test_all_examples_are_there_once_in_an_order_of_the_task():
    sets = [examples(6, 0), examples(10, 6)]
    orders = []
    for task in range(4):
        shown = sequence.in_sequence(sets, order_noise(Key.of("task", task)))
        assert sorted(shown.y.tolist()) == list(range(16))
        assert torch.equal(shown.x[:, 0], shown.y.double())
        orders.append(tuple(shown.y.tolist()))
        again = sequence.in_sequence(sets, order_noise(Key.of("task", task)))
        assert torch.equal(again.y, shown.y)
    assert len(set(orders)) == 4


def test_what_does_not_count_comes_last():
    mask = torch.tensor([False, True, True])
    shown = sequence.in_sequence([examples(3, 0, mask), examples(5, 3)], order_noise(Key.of("m")))
    assert shown.mask is not None
    assert shown.mask.tolist() == [True] * 7 + [False]
    assert int(shown.y[-1]) == 0


def test_a_sequence_that_is_too_long_is_refused():
    noise = order_noise(Key.of("long"))
    with pytest.raises(RecipeError, match=r"at most 2048 examples is possible, the task has 2049"):
        sequence.in_sequence([examples(2000, 0), examples(49, 0)], noise)


def test_the_first_comes_without_a_label():
    codes = torch.eye(3, dtype=torch.float64)
    assert sequence.one_later(codes).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
