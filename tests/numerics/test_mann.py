"""MANN: what it cannot know, how it is asked, how labels are coded; checks fail under a mistake.

Predictions and gradients stand in ``memory_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.algorithms.mann import MANN, shown_later
from metadist.errors import RecipeError
from metadist.inner.blocks.codes import LENGTH, Strings
from metadist.inner.blocks.recurrent import Recurrent
from metadist.inner.blocks.sequence import task_in_sequence
from metadist.keys import Key
from tests.contract.cases import Case, Options, built
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import logits, near, reordered

CASE = Case("mann", "mlp-relu", "none")
Mistake = Callable[[pytest.MonkeyPatch], None]


def double(name: str, *shape: int) -> Tensor:
    return Key.of("mann", name).normal(shape, torch.float64)


# --- what it cannot know --------------------------------------------------------------------------


def check_no_leak(setting: Setting) -> None:
    """The label of an example reaches no answer to it or before it: no difference, no slope."""
    learner, task, ctx = setting.algorithm, setting.tasks.task(0), setting.task_ctx(0)
    assert isinstance(learner, MANN)
    shown = task_in_sequence(task, ctx.noise["order"])
    features = shown.x.flatten(1)
    codes = learner.codes.of_ways(ctx.noise, features)[shown.y].requires_grad_()
    known = learner.encoder.forward(setting.params, shown.x, learner.normalisation.support(ctx))
    found, _ = learner.network.whole(setting.params, shown_later(known.value, codes))
    for place in range(len(shown)):
        (slope,) = torch.autograd.grad(found[place].square().sum(), codes, retain_graph=True)
        reached = slope.abs().sum(1) > 0
        assert reached.tolist() == [before < place for before in range(len(shown))]


def leaks(patch: pytest.MonkeyPatch) -> None:
    """The label comes with its own example."""
    patch.setattr("metadist.algorithms.mann.one_later", lambda codes: codes)


def late(patch: pytest.MonkeyPatch) -> None:
    """The label comes two examples later."""
    patch.setattr(
        "metadist.algorithms.mann.one_later",
        lambda codes: torch.cat([torch.zeros_like(codes[:2]), codes[:-2]]),
    )


def test_a_label_is_shown_with_the_next_example():
    check_no_leak(make(CASE))


@pytest.mark.parametrize("mistake", [leaks, late])
def test_labels_at_another_place_are_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_no_leak(make(CASE))


def test_the_first_answer_is_the_same_whatever_the_labels_are():
    setting = make(CASE).at(phase="test")
    learner = setting.algorithm
    assert isinstance(learner, MANN)
    shown = setting.tasks.task(0).support
    first = learner.sequence_predictions(setting.params, shown, setting.task_ctx(0)).mean[0]
    other = learner.sequence_predictions(
        setting.params, shown.with_y(shown.y.flip(0)), setting.task_ctx(0)
    ).mean[0]
    assert torch.equal(first, other)


def check_queries_apart(setting: Setting) -> None:
    """Each query comes next by itself: others beside it change nothing."""
    learner, task = setting.algorithm, setting.tasks.task(0)
    ctx = setting.at(phase="test").task_ctx(0)
    (fitted,) = learner.adapt(setting.params, task.view(learner.needs), ctx)
    alone = learner.predict(fitted, task.query.without("y")[torch.tensor([1])], ctx).mean
    near(alone[0], logits(setting)[1])


def test_queries_know_of_no_other():
    check_queries_apart(make(CASE))


def test_queries_in_a_row_are_noticed(monkeypatch: pytest.MonkeyPatch):
    def wrong(self, params, x, past):
        found = []
        for row in self.controller.gated(params, x).split(1):
            past = self.step(params, row, past)
            found.append(past.known)
        return torch.cat(found)

    setting = make(CASE)
    monkeypatch.setattr(Recurrent, "last", wrong)
    with pytest.raises(AssertionError):
        check_queries_apart(setting)


def test_order_means_something():
    setting = make(CASE)
    support = setting.tasks.task(0).support
    other = logits(setting, reordered(support))
    assert float((other - logits(setting)).abs().max()) > 1e-6


# --- strings --------------------------------------------------------------------------------------


def test_strings_are_different_and_a_task_has_its_own():
    codes = Strings(40)
    noises = [codes.noise(Key.of("task", i)) for i in range(30)]
    found = [codes.of_ways(noise, torch.zeros(1)) for noise in noises]
    for each in found:
        letters = each.unflatten(1, (LENGTH, LENGTH))
        assert torch.equal(letters.sum(2), torch.ones(40, LENGTH))
        assert len({tuple(row) for row in each.tolist()}) == 40
    assert not torch.equal(found[0], found[1])
    # All letters are as frequent as any other at any place.
    share = torch.stack(found).mean((0, 1))
    assert float((share - 1 / 5).abs().max()) < 0.06


def test_a_string_that_no_way_has_is_none_of_them():
    codes = Strings(3)
    of_ways = codes.of_ways(codes.noise(Key.of("s")), torch.zeros(1, dtype=torch.float64))
    for way in range(3):
        answer = 4 * of_ways[way : way + 1]
        assert int(codes.free_logits(answer, of_ways).argmax(1)) == way
        assert int(codes.logits(answer, of_ways).argmax(1)) == way
        letter = of_ways[way].unflatten(0, (LENGTH, LENGTH)).clone()
        # A string of no way: one whose letters are all those that come next in the alphabet.
        other = 4 * letter.roll(1, 1).reshape(1, -1)
        if not bool((other / 4 == of_ways).all(1).any()):
            assert int(codes.free_logits(other, of_ways).argmax(1)) == 3


def test_logits_of_strings_are_the_probabilities_of_their_letters():
    codes = Strings(4)
    of_ways = codes.of_ways(codes.noise(Key.of("s")), torch.zeros(1, dtype=torch.float64))
    answers = double("answers", 6, 25)
    found = codes.logits(answers, of_ways)
    for row in range(6):
        for way in range(4):
            total = 0.0
            for place in range(LENGTH):
                part = answers[row, 5 * place : 5 * place + 5].exp()
                letter = int(of_ways[way, 5 * place : 5 * place + 5].argmax())
                total += float((part[letter] / part.sum()).log())
            assert float(found[row, way]) == pytest.approx(total, rel=1e-12)


def test_with_strings_nothing_has_the_size_of_the_ways():
    strings: Options = (("labels", "strings"),)
    learner = built(replace(CASE, options=strings))
    assert isinstance(learner, MANN)
    more = replace(learner, ways=7, codes=Strings(7))
    sizes = [{n: p.shape for n, p in of.init(Key.of("w")).items()} for of in (learner, more)]
    assert sizes[0] == sizes[1]


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 9, "memory_rows": 8}, r"at most algorithm.memory_rows, 8, are possible, got 9"),
        ({"addressing": "ntm", "sharp": True}, r"'ntm' knows no sharp; leave it out"),
        ({"addressing": "ntm", "usage_decay": 0.5}, r"'ntm' knows no usage_decay"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], words: str):
    with pytest.raises(RecipeError, match=words):
        built(replace(CASE, options=tuple(options.items())))


def test_more_ways_than_strings_are_refused():
    with pytest.raises(RecipeError, match=r"there are 3125 strings of 5 letters, 3126 ways"):
        Strings(3126)


def test_pixels_go_to_the_controller_as_they_are():
    learner = built(Case("mann", "conv4-stride", "none", options=(("embed", False),)))
    assert isinstance(learner, MANN)
    assert all(name.startswith("mann.") for name in learner.init(Key.of("pixels")))
    assert learner.network.controller.inputs == 16 * 16 + 3
    assert not learner.normalises
