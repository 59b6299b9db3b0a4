"""Matching networks: what follows from their equations, each seen to fail under a mistake.

Predictions and gradients stand in ``metric_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.algorithms import matching
from metadist.algorithms.matching import Matching
from metadist.inner.embedding.attention import attention
from metadist.inner.embedding.lstm import LSTM
from metadist.inner.similarity import class_attention, squared_distances
from metadist.keys import Key
from tests.contract.cases import WAYS, Case, Options
from tests.contract.setting import Setting, make
from tests.numerics.metric_checks import (
    check_names,
    check_symmetric,
    logits,
    near,
    reordered,
)

CASE = Case("matching", "conv4-stride", "support")
CONTEXT: Options = (("support_lstm", True), ("query_lstm_steps", 3))
FULL = replace(CASE, options=CONTEXT)
Mistake = Callable[[pytest.MonkeyPatch], None]


# --- the simple form ------------------------------------------------------------------------------


def check_probabilities(setting: Setting) -> None:
    """What is predicted are logarithms of probabilities."""
    near(logits(setting).exp().sum(1), torch.ones(len(logits(setting)), dtype=torch.float64))


def mean_attention(patch: pytest.MonkeyPatch) -> None:
    """The mean attention on a class in place of the sum."""

    def wrong(similarities: Tensor, labels: Tensor, ways: int) -> Tensor:
        right: Tensor = class_attention(similarities, labels, ways)
        return right - (labels == 0).sum().log()

    patch.setattr(matching, "class_attention", wrong)


def bare_similarities(patch: pytest.MonkeyPatch) -> None:
    """No softmax over the support set."""

    def wrong(similarities: Tensor, labels: Tensor, ways: int) -> Tensor:
        return torch.stack([similarities[:, labels == way].sum(1) for way in range(ways)], 1)

    patch.setattr(matching, "class_attention", wrong)


def test_the_simple_form_is_a_weighting_of_labels():
    setting = make(CASE)
    check_probabilities(setting)
    check_symmetric(setting)


@pytest.mark.parametrize("mistake", [mean_attention, bare_similarities])
def test_what_is_no_attention_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_probabilities(setting)


def test_with_one_shot_prototypes_are_matched():
    """With attention by minus the squared distance it is a prototypical network."""
    query, support = (
        Key.of(name).normal((n, 5), torch.float64) for name, n in (("q", 4), ("s", 3))
    )
    labels = torch.tensor([1, 2, 0])
    far = squared_distances(query, support)
    near(class_attention(-far, labels, WAYS).exp(), (-far[:, labels.argsort()]).softmax(1))


# --- full context embeddings ----------------------------------------------------------------------


def closed(setting: Setting) -> Setting:
    """With LSTMs whose output gates are shut: they put out zeros."""
    params = dict(setting.params)
    for name in params:
        if name.endswith(".bias") and name.startswith(("support.", "query.")):
            *others, outputs = params[name].chunk(4)
            params[name] = torch.cat([*others, torch.full_like(outputs, -1e9)])
    return replace(setting, params=params)


def check_reduction(setting: Setting, simple: Tensor) -> None:
    """Without what LSTMs put out, the logits of the simple form are left, to the bit."""
    assert torch.equal(logits(closed(setting)), simple)
    assert float((logits(setting) - simple).abs().max()) > 1e-3


def simple_form(setting: Setting) -> Tensor:
    """Logits of the simple form with the same encoder."""
    simple = make(CASE)
    return logits(replace(simple, params={n: setting.params[n] for n in simple.params}))


def check_order(setting: Setting) -> None:
    """The order of the support set means something to an LSTM that walks it."""
    other = logits(setting, reordered(setting.tasks.task(0).support))
    assert float((other - logits(setting)).abs().max()) > 1e-4
    check_names(setting)


def no_shortcut(patch: pytest.MonkeyPatch) -> None:
    """Embedded examples without what the encoder says of them alone."""
    right = Matching.known

    def wrong(self, params, features, labels):
        found, labels = right(self, params, features, labels)
        return found - features, labels

    patch.setattr(Matching, "known", wrong)


def no_query_shortcut(patch: pytest.MonkeyPatch) -> None:
    """The same of queries."""
    right = Matching.read
    patch.setattr(Matching, "read", lambda self, p, s, q: right(self, p, s, q) - q)


def support_as_a_set(patch: pytest.MonkeyPatch) -> None:
    """Means over the support set where an LSTM should walk it."""

    def wrong(self, params, sequence, *, backwards=False):
        return sequence.mean(0, keepdim=True).expand_as(sequence)

    patch.setattr(LSTM, "outputs", wrong)


def test_without_context_the_simple_form_is_left():
    setting = make(FULL)
    check_reduction(setting, simple_form(setting))
    assert torch.equal(
        logits(make(replace(CASE, options=(("query_lstm_steps", 0),)))), logits(make(CASE))
    )


@pytest.mark.parametrize("mistake", [no_shortcut, no_query_shortcut])
def test_embeddings_without_the_encoder_are_noticed(
    mistake: Mistake, monkeypatch: pytest.MonkeyPatch
):
    setting = make(FULL)
    simple = simple_form(setting)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_reduction(setting, simple)


def test_order_means_something_to_an_lstm_and_nothing_to_attention():
    check_order(make(FULL))
    check_symmetric(make(replace(CASE, options=CONTEXT[1:])))


def test_a_set_in_place_of_a_sequence_is_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = make(FULL)
    support_as_a_set(monkeypatch)
    with pytest.raises(AssertionError):
        check_order(setting)


# --- fine-tuning ----------------------------------------------------------------------------------


def test_fine_tuning_lowers_the_loss_of_the_support_set_and_starts_at_the_plain_network():
    plain, tuned = make(CASE), make(replace(CASE, options=(("fine_tune", True),)))
    learner, task = tuned.algorithm, tuned.tasks.task(0)
    assert isinstance(learner, Matching)
    ctx = tuned.at(phase="test", inner_steps=4).task_ctx(0)
    fitted = learner.adapt(tuned.params, task.view(learner.needs), ctx)
    losses = [float(learner.support_loss(one.params, task.support, ctx)) for one in fitted]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 1e-3
    first = learner.predict(fitted[0], task.query.without("y"), ctx)
    assert torch.equal(first.mean, logits(plain))
    # None of it happens in training.
    assert len(learner.adapt(tuned.params, task.view(learner.needs), tuned.task_ctx(0))) == 1


# --- the parts ------------------------------------------------------------------------------------


def double(name: str, *shape: int) -> Tensor:
    return Key.of("lstm", name).normal(shape, torch.float64)


def cell(inputs: int = 3, units: int = 4, recurrent: int = 0) -> tuple[LSTM, dict[str, Tensor]]:
    lstm = LSTM("a", inputs, units, recurrent)
    return lstm, {n: p.double() for n, p in lstm.init(Key.of("lstm")).items()}


def check_lstm() -> None:
    """As torch's, forwards and backwards."""
    lstm, params = cell()
    sequence = double("sequence", 6, 3)
    there = torch.nn.LSTM(3, 4, bidirectional=True).double()
    state = {
        f"{kind}_l0{way}": params[name]
        for way in ("", "_reverse")
        for kind, name in (
            ("weight_ih", "a.inputs"),
            ("weight_hh", "a.recurrent"),
            ("bias_ih", "a.bias"),
        )
    }
    zeros = {f"bias_hh_l0{way}": torch.zeros(16).double() for way in ("", "_reverse")}
    there.load_state_dict({**state, **zeros})
    wanted = there(sequence)[0].detach()
    near(lstm.outputs(params, sequence), wanted[:, :4])
    near(lstm.outputs(params, sequence, backwards=True), wanted[:, 4:])


def forgetful(patch: pytest.MonkeyPatch) -> None:
    """Gates in another order."""
    right = LSTM.step

    def wrong(self, params, gated, fed_back, cell):
        return right(self, params, gated.roll(self.units, 1), fed_back, cell)

    patch.setattr(LSTM, "step", wrong)


def one_way(patch: pytest.MonkeyPatch) -> None:
    """Forwards in both directions."""
    right = LSTM.outputs
    patch.setattr(LSTM, "outputs", lambda self, p, s, *, backwards=False: right(self, p, s))


def test_an_lstm_is_torchs():
    check_lstm()


@pytest.mark.parametrize("mistake", [forgetful, one_way])
def test_another_lstm_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_lstm()


def test_an_lstm_has_second_derivatives_and_is_the_same_under_vmap():
    lstm, params = cell(2, 2)
    names = list(params)

    def outputs(sequence: Tensor, *tensors: Tensor) -> Tensor:
        return lstm.outputs(dict(zip(names, tensors, strict=True)), sequence)

    given = [double("short", 3, 2), *params.values()]
    given = [t.clone().requires_grad_() for t in given]
    assert torch.autograd.gradgradcheck(outputs, given)
    many = double("many", 4, 5, 2)
    together = torch.func.vmap(lambda s: lstm.outputs(params, s))(many)
    near(together, torch.stack([lstm.outputs(params, s) for s in many]))


def test_more_can_be_fed_back_than_the_output():
    lstm, params = cell(3, 4, 7)
    assert params["a.recurrent"].shape == (16, 7)
    gated = lstm.gated(params, double("x", 2, 3))
    hidden, state = lstm.step(params, gated, double("fed", 2, 7), double("cell", 2, 4))
    assert hidden.shape == state.shape == (2, 4)


def test_attention_reads_the_mean_where_it_prefers_nothing():
    values, keys = double("values", 5, 2), double("keys", 5, 3)
    near(attention(torch.zeros(1, 3).double(), keys, values)[0], values.mean(0))
    query = 1e4 * keys[2:3]
    chosen = int((query @ keys.T).argmax())
    near(attention(query, keys, values)[0], values[chosen])
    near(attention(query, keys, values, 0.0)[0], values.mean(0))
