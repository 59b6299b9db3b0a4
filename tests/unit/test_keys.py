"""Random keys: pinned numbers, and nothing that depends on what was drawn before."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from metadist.keys import Key

#: Pinned: other numbers would change every run ever made.
GOLDEN = [
    float.fromhex(text)
    for text in (
        "0x1.a4f8d6d71dbe2p-1",
        "0x1.26a14fa792124p-1",
        "0x1.0e276068b217dp-2",
        "0x1.c77567fbd4a0dp-2",
    )
]


def test_golden_keys():
    key = Key.of("metadist", 0)
    assert key.value == 0x6D211FEBFF5068FE32B8FC4FB42148A9
    assert key.fold("init").value == 0x36F0CFFBE83A124D77D2D8437E929B06
    assert Key.of("metadist", 0).fold("train", 3, 17).value == 0xBCC250C239ACCC199844A3CA0FB845AE


def test_golden_uniforms():
    key = Key.of("metadist", 0).fold("init")
    wanted = torch.tensor(GOLDEN, dtype=torch.float64)
    assert torch.equal(key.uniform((4,), torch.float64), wanted)
    assert torch.equal(key.uniform((4,)), wanted.float())
    assert torch.equal(key.uniform((2, 2), torch.float64), wanted.reshape(2, 2))


def test_golden_normals():
    # To rounding: the inverse error function is the math library's.
    key = Key.of("metadist", 0).fold("init")
    torch.testing.assert_close(
        key.normal((3,), torch.float64),
        torch.tensor([0.9238238898158325, 0.19026549952927235, -0.631606298878383]).double(),
        rtol=0,
        atol=1e-7,
    )
    torch.testing.assert_close(
        key.truncated_normal((3,), torch.float64),
        torch.tensor([0.8689044685625883, 0.1815103276089742, -0.599054586027839]).double(),
        rtol=0,
        atol=1e-7,
    )


def test_numbers_do_not_depend_on_what_was_drawn_before():
    first, second = Key.of("run").fold("a"), Key.of("run").fold("b")
    wanted = first.uniform((5,)), second.normal((5,))
    torch.manual_seed(1)
    second.truncated_normal((100,))
    assert torch.equal(second.normal((5,)), wanted[1])
    assert torch.equal(first.uniform((5,)), wanted[0])
    assert torch.equal(Key(first.value).uniform((5,)), wanted[0])


def test_drawing_leaves_other_generators_alone():
    before, numpy_before = torch.get_rng_state(), repr(np.random.get_state())
    Key.of("run").normal((10,))
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(np.random.get_state()) == numpy_before


def test_a_longer_draw_begins_with_the_shorter():
    key = Key.of("prefix")
    assert torch.equal(key.uniform((100,))[:7], key.uniform((7,)))


def test_different_names_give_different_keys():
    keys = [
        Key.of(),
        Key.of("a"),
        Key.of("a", "b"),
        Key.of("ab"),
        Key.of("a").fold("b"),
        Key.of("b").fold("a"),
        Key.of("1"),
        Key.of(1),
        Key.of("a", 1),
        Key.of("a", "1"),
        Key.of("a").fold(1),
        Key.of("a").fold("1"),
        Key.of("a").fold("b", "c"),
        Key.of("a").fold("bc"),
        Key.of("a").fold("b").fold("c"),
        *(Key.of("a").fold("train", step, task) for step in range(30) for task in range(30)),
    ]
    assert len({key.value for key in keys}) == len(keys)
    assert all(0 <= key.value < 1 << 128 for key in keys)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (2, 3, 4)])
def test_shapes_and_types(shape: tuple[int, ...]):
    key = Key.of("shape")
    for draw in (key.uniform, key.normal, key.truncated_normal):
        assert draw(shape).shape == shape
        assert draw(shape).dtype == torch.float32
        assert draw(shape, torch.float64).dtype == torch.float64
        assert draw(shape).device.type == "cpu"


def test_uniforms_are_uniform():
    count = 100_000
    u = Key.of("sanity").uniform((count,), torch.float64)
    assert 0 < float(u.min()) < 1e-3
    assert 1 - 1e-3 < float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 4 / math.sqrt(12 * count)
    # Chi-square over 100 bins: 99 degrees of freedom, standard deviation sqrt(198).
    bins = torch.histc(u, 100, 0, 1)
    assert float(((bins - count / 100) ** 2 / (count / 100)).sum()) < 99 + 5 * math.sqrt(198)
    # Neighbours are not correlated.
    assert abs(float(torch.corrcoef(torch.stack([u[:-1], u[1:]]))[0, 1])) < 4 / math.sqrt(count)


def test_uniforms_of_sibling_keys_are_independent():
    count = 10_000
    key = Key.of("siblings")
    rows = torch.stack([key.fold(i).uniform((count,), torch.float64) for i in range(5)])
    off = torch.corrcoef(rows) - torch.eye(5)
    assert float(off.abs().max()) < 4.5 / math.sqrt(count)
    first = torch.stack([key.fold(i).uniform((), torch.float64) for i in range(1000)])
    assert abs(float(first.mean()) - 0.5) < 4 / math.sqrt(12 * 1000)


def test_uniforms_never_reach_their_ends(monkeypatch: pytest.MonkeyPatch):
    """Neither end of the generator's range gives 0 or 1, which ``normal`` makes infinite."""

    class Ends:
        def __init__(self, key: object) -> None: ...

        def random_raw(self, count: int):
            return np.array([0, (1 << 64) - 1], dtype=np.uint64)

    monkeypatch.setattr(np.random, "Philox", Ends)
    u = Key.of("ends").uniform((2,), torch.float64)
    assert 0 < float(u[0]) < 1e-15
    assert 1 - 1e-15 < float(u[1]) < 1
    assert bool(torch.isfinite(Key.of("ends").normal((2,))).all())


def test_normals_are_normal():
    count = 100_000
    z = Key.of("sanity").normal((count,), torch.float64)
    assert abs(float(z.mean())) < 4 / math.sqrt(count)
    assert abs(float(z.var()) - 1) < 4 * math.sqrt(2 / count)
    assert abs(float((z**4).mean()) - 3) < 4 * math.sqrt(96 / count)
    assert abs(float((z.abs() < 1.959964).double().mean()) - 0.95) < 0.003


def test_truncated_normals_are_truncated():
    count = 100_000
    z = Key.of("sanity").truncated_normal((count,), torch.float64)
    assert 1.99 < float(z.abs().max()) <= 2 + 1e-12
    assert abs(float(z.mean())) < 4 / math.sqrt(count)
    # Variance of the standard normal law cut at 2: 1 - 4 phi(2) / (2 Phi(2) - 1).
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    variance = 1 - 4 * density / math.erf(math.sqrt(2))
    assert abs(float(z.var()) - variance) < 0.01


def test_modules_made_in_several_threads_are_those_made_alone():
    def make() -> list[torch.Tensor]:
        drawn = []
        for _ in range(5):
            drawn.append(torch.rand(3))
            time.sleep(0.002)
        return drawn

    keys = [Key.of("thread", number) for number in range(4)]
    wanted = [torch.cat(key.module(make)) for key in keys]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(len(keys)) as pool:
        made = pool.map(lambda key: torch.cat(key.module(make)), keys)
        assert all(torch.equal(a, b) for a, b in zip(made, wanted, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
