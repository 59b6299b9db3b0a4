"""External memory: where it is written and read; each check fails under a mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.inner.blocks.memory import LeastRecentlyUsed, Memory, NeuralTuring, State
from metadist.inner.blocks.recurrent import FeedForward, Recurrent
from metadist.inner.embedding.lstm import LSTM
from metadist.keys import Key
from metadist.tasks import Params
from tests.numerics.metric_checks import near

UNITS, ROWS, WIDTH, HEADS = 5, 9, 4, 2
SIZES = ("m", UNITS, ROWS, WIDTH, HEADS)
Mistake = Callable[[pytest.MonkeyPatch], None]


def double(name: str, *shape: int) -> Tensor:
    return Key.of("mann", name).normal(shape, torch.float64)


def params_of(part: Memory | Recurrent) -> Params:
    return {n: 3 * p.double() for n, p in part.init(Key.of("mann")).items()}


def gated(params: Params, memory: Memory, gate: float) -> Params:
    """The same with sigmoid(gate) as every gate."""
    weight, bias = (params[f"m.heads.{n}"].clone() for n in ("weight", "bias"))
    place = 0
    for name, (heads, size) in memory.sizes.items():
        if name == "gate":
            weight[place : place + heads * size], bias[place : place + heads * size] = 0, gate
        place += heads * size
    return {"m.heads.weight": weight, "m.heads.bias": bias}


def turns(memory: Memory, params: Params, count: int = 12) -> list[tuple[State, State]]:
    """States before and after each of some steps."""
    state, found = memory.start(double("h", 1, UNITS)), []
    for turn in range(count):
        _, after = memory.step(params, double(f"h{turn}", 1, UNITS), state)
        found.append((state, after))
        state = after
    return found


def used(before: State, after: State, decay: float) -> Tensor:
    """What the usage says was written in a step, summed over the heads."""
    assert before.usage is not None
    assert after.usage is not None
    return after.usage[0] - decay * before.usage[0] - after.weights[0].sum(0)


# --- least recently used access -------------------------------------------------------------------


def test_weights_are_shares():
    """Reads of a head sum to 1 over the rows, and so do its writes."""
    memory = LeastRecentlyUsed(*SIZES)
    for before, after in turns(memory, params_of(memory)):
        near(after.weights.sum(2), torch.ones(1, HEADS, dtype=torch.float64))
        assert bool((after.weights > 0).all())
        written = used(before, after, memory.decay)
        assert bool((written > -1e-12).all())
        assert abs(float(written.sum()) - HEADS) <= 1e-9


def check_least_used() -> None:
    """With gates shut each head writes its key to a row of its own, of those least used; the least
    used of all is emptied before, and no other row changes."""
    memory = LeastRecentlyUsed(*SIZES)
    params = gated(params_of(memory), memory, -800.0)
    for turn, (before, after) in enumerate(turns(memory, params)):
        assert before.usage is not None
        usage = before.usage[0].tolist()
        least = sorted(range(ROWS), key=usage.__getitem__)[:HEADS]
        written = used(before, after, memory.decay)
        wanted = torch.zeros(ROWS, dtype=torch.float64)
        wanted[least] = 1
        near(written, wanted)
        keys = memory.parts(params, double(f"h{turn}", 1, UNITS))["key"][0].tanh()
        rows = before.memory[0].clone()
        rows[least[0]] = 0
        for head, row in enumerate(least):
            rows[row] = rows[row] + keys[head]
        near(after.memory[0], rows)


def check_last_read() -> None:
    """With gates open each head writes where it read last."""
    memory = LeastRecentlyUsed(*SIZES)
    params = gated(params_of(memory), memory, 800.0)
    for before, after in turns(memory, params):
        near(used(before, after, memory.decay), before.weights[0].sum(0))


def most_used(patch: pytest.MonkeyPatch) -> None:
    """The most used rows in the place of the least used."""
    right = torch.Tensor.argsort
    patch.setattr(torch.Tensor, "argsort", lambda x, *a, **how: right(-x, *a, **how))


def not_emptied(patch: pytest.MonkeyPatch) -> None:
    """What was in the least used row stays beside what is written to it."""
    right = LeastRecentlyUsed.step

    def wrong(self, params, h, state):
        assert state.usage is not None
        row = int(state.usage[0].argsort(stable=True)[0])
        read, after = right(self, params, h, state)
        memory = after.memory.clone()
        memory[0, row] += state.memory[0, row] + 1e-3
        return read, replace(after, memory=memory)

    patch.setattr(LeastRecentlyUsed, "step", wrong)


def usage_of_reads(patch: pytest.MonkeyPatch) -> None:
    """Usage that does not count what was written."""
    right = LeastRecentlyUsed.step

    def wrong(self, params, h, state):
        read, after = right(self, params, h, state)
        return read, replace(after, usage=self.decay * state.usage + after.weights.sum(1))

    patch.setattr(LeastRecentlyUsed, "step", wrong)


def gate_the_other_way(patch: pytest.MonkeyPatch) -> None:
    right = LeastRecentlyUsed.parts

    def wrong(self, params, h):
        parts = right(self, params, h)
        return {**parts, "gate": -parts["gate"]}

    patch.setattr(LeastRecentlyUsed, "parts", wrong)


def test_what_is_new_goes_to_the_least_used_rows():
    check_least_used()


def test_what_was_read_last_is_written_to_again():
    check_last_read()


@pytest.mark.parametrize("mistake", [most_used, not_emptied, usage_of_reads, gate_the_other_way])
def test_other_rows_are_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_least_used()


@pytest.mark.parametrize("mistake", [usage_of_reads, gate_the_other_way])
def test_other_rows_to_write_to_again_are_noticed(
    mistake: Mistake, monkeypatch: pytest.MonkeyPatch
):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_last_read()


# --- neural Turing machines -----------------------------------------------------------------------


def check_turing() -> None:
    """Weights of all heads are shares; a memory that is erased and not added to is empty."""
    memory = NeuralTuring(*SIZES)
    params = params_of(memory)
    for _, after in turns(memory, params):
        near(after.weights.sum(2), torch.ones(1, HEADS + 1, dtype=torch.float64))
        assert bool((after.weights > 0).all())


def check_shift() -> None:
    """With content shut out, a head that shifts by one row goes around the memory."""
    memory = NeuralTuring(*SIZES)
    params = {n: torch.zeros_like(p) for n, p in params_of(memory).items()}
    bias, place = params["m.heads.bias"], 0
    for name, (heads, size) in memory.sizes.items():
        part = bias[place : place + heads * size].view(heads, size)
        if name == "gate":
            part.fill_(-800.0)
        elif name == "shift":
            part[:, 2] = 800.0
        elif name == "power":
            part.fill_(50.0)
        place += heads * size
    for turn, (_, after) in enumerate(turns(memory, params, ROWS + 2), 1):
        assert after.weights.argmax(2).tolist() == [[turn % ROWS] * (HEADS + 1)]
        near(after.weights.amax(2), torch.ones(1, HEADS + 1, dtype=torch.float64))


def backwards(patch: pytest.MonkeyPatch) -> None:
    right = torch.Tensor.roll
    patch.setattr(torch.Tensor, "roll", lambda x, by, axis: right(x, -by, axis))


def always_content(patch: pytest.MonkeyPatch) -> None:
    right = NeuralTuring.parts

    def wrong(self, params, h):
        parts = right(self, params, h)
        return {**parts, "gate": parts["gate"].abs()}

    patch.setattr(NeuralTuring, "parts", wrong)


def test_a_turing_machine_finds_rows_by_place():
    check_turing()
    check_shift()


@pytest.mark.parametrize("mistake", [backwards, always_content])
def test_other_places_are_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_shift()


# --- the network over a sequence ------------------------------------------------------------------

KINDS = {
    "lrua": LeastRecentlyUsed(*SIZES),
    "sharp": LeastRecentlyUsed(*SIZES, sharp=True, separate=True),
    "ntm": NeuralTuring(*SIZES),
}


def recurrent(kind: str, *, stateful: bool) -> Recurrent:
    memory = KINDS[kind]
    if stateful:
        return Recurrent(LSTM("c", 3, UNITS, UNITS + memory.reads), memory)
    return Recurrent(FeedForward("c", 3, UNITS, memory.reads), memory)


@pytest.mark.parametrize("stateful", [True, False], ids=["lstm", "feed_forward"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_has_second_derivatives_and_is_the_same_under_vmap(kind: str, stateful: bool):
    network = recurrent(kind, stateful=stateful)
    params = {n: p.requires_grad_() for n, p in params_of(network).items()}
    names = list(params)

    def both(x: Tensor, end: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = dict(zip(names, tensors, strict=True))
        known, past = network.whole(given, x)
        return known, network.last(given, end, past)

    x, end = double("short", 3, 3).requires_grad_(), double("end", 2, 3).requires_grad_()
    found = both(x, end, *params.values())
    slopes = torch.autograd.grad(
        torch.stack([f.square().sum() for f in found]).sum(),
        [x, *params.values()],
        create_graph=True,
    )
    whole = torch.stack([s.square().sum() for s in slopes]).sum()
    again = torch.autograd.grad(whole, [x, *params.values()])
    assert all(bool(s.isfinite().all()) for s in (*slopes, *again))
    assert all(float(s.abs().max()) > 0 for s in again)
    many = double("many", 4, 3, 3)
    together = torch.func.vmap(lambda s: network.whole(params, s)[0])(many)
    near(together, torch.stack([network.whole(params, s)[0] for s in many]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_sequences_are_those_of_whole_ones(kind: str):
    network = recurrent(kind, stateful=True)
    params = params_of(network)
    support, ends = double("support", 6, 3), double("ends", 4, 3)
    _, past = network.whole(params, support)
    wanted = [network.whole(params, torch.cat([support, end[None]]))[0][-1] for end in ends]
    near(network.last(params, ends, past), torch.stack(wanted))
