"""Modules and factories that are no pure function, or do not fit: refused by name with the cure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from module_networks import OUTPUTS, Sequence, network_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

import metadist
from metadist.errors import MetadistError, RecipeError
from metadist.keys import Key


def plain(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *more, nn.Linear(128, OUTPUTS))


def changed(part: nn.Module, **attributes: Any) -> nn.Module:
    for name, value in attributes.items():
        setattr(part, name, value)
    return part


def with_buffer() -> nn.Module:
    module = plain()
    module.register_buffer("count", torch.zeros(()))
    return module


def frozen() -> nn.Module:
    module = plain(nn.Linear(128, 128))
    module[1].get_parameter("bias").requires_grad_(False)
    return module


def whole_numbers() -> nn.Module:
    module = plain()
    module.steps = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
    return module


def hooked() -> nn.Module:
    module = plain(nn.Linear(128, 128))
    module[1].register_forward_hook(lambda m, args, output: output + 1)
    return module


class OwnNorm(nn.BatchNorm1d):
    """With a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def passing(forward: Callable[[nn.Module, Tensor], Any]) -> Callable[[], nn.Module]:
    """A linear module whose pass is this function of it and the flat input."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(128, OUTPUTS)
            self.register_buffer("count", torch.zeros(()))
            self.rows = 0

        def forward(self, x: Tensor) -> Any:
            return forward(self, x.flatten(1))

    return Own


def counting(module: Any, x: Tensor) -> Tensor:
    module.rows += 1
    out: Tensor = module.head(x) + module.rows
    return out


def numpys() -> nn.Module:
    module = plain()
    module[1].get_parameter("weight").data += torch.from_numpy(np.random.rand(OUTPUTS, 128))
    return module


def pythons() -> nn.Module:
    return changed(plain(), scale=nn.Parameter(torch.tensor(random.random())))


ONE, SQUARE = plain(), nn.Linear(128, 128)


def unset() -> nn.Module:
    return changed(plain(), scale=nn.Parameter(torch.full((2,), torch.nan)))


def clocks() -> nn.Module:
    return changed(plain(), scale=nn.Parameter(torch.tensor(time.time_ns() % 10**6 / 7)))


def seeding() -> nn.Module:
    torch.manual_seed(0)
    return plain()


class Body(nn.Module):
    """Two linear layers, whose first weight a subclass may take from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(128, 128))
        self.head = nn.Linear(128, OUTPUTS)
        self.ws: Any = [self.a]
        self.view = self.a.detach().numpy()

    def weight(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(x.flatten(1) @ self.weight()))
        return out


def body(weight: Callable[[Any], Tensor]) -> Callable[[], nn.Module]:
    return type("Own", (Body,), {"weight": weight, "__module__": __name__})


class Holder:
    """No container that anybody knows."""

    def __init__(self) -> None:
        self.net = nn.Linear(128, 128)


def holding() -> nn.Module:
    module = body(lambda m: m.holder.net.weight)()
    module.holder = Holder()  # type: ignore[assignment]
    return module


def closed() -> nn.Module:
    """A method over a layer that is made beside the module."""
    layer = nn.Linear(128, 128)
    return body(lambda m: layer.weight)()


def privately() -> nn.Module:
    module, generator = plain(), torch.Generator().manual_seed(0)
    for p in module.parameters():
        nn.init.normal_(p, generator=generator)
    return module


def numpy_seeding() -> nn.Module:
    np.random.seed(0)
    drawn = torch.from_numpy(np.random.rand(3)).float()
    return changed(plain(), scale=nn.Parameter(drawn))


def python_seeding() -> nn.Module:
    random.seed(0)
    return plain()


REFUSED: list[tuple[Callable[[], Any], str]] = [
    # A module that is none, or has nothing to learn.
    (lambda: 3, r"plain nn.Module is needed, got int"),
    (lambda: torch.jit.ScriptModule(), r"plain nn.Module is needed, got ScriptModule"),
    (lambda: nn.Flatten(), r"no parameters"),
    (lambda: 1 / 0, r"cannot be made: ZeroDivisionError"),
    # Random numbers.
    (lambda: plain(nn.Dropout(0.5)), r"1 \(Dropout\) draws random .*p=0 or nn.Identity"),
    (lambda: plain(nn.RReLU()), r"1 \(RReLU\) draws random"),
    (
        lambda: Sequence(nn.TransformerEncoderLayer(2, 1, 8, batch_first=True)),
        r"body.self_attn \(MultiheadAttention\) draws random .*body.dropout \(Dropout\)",
    ),
    (numpys, r"1.weight are other numbers when it is made again.*NumPy"),
    (pythons, r"scale are other numbers"),
    (clocks, r"scale are other numbers"),
    (unset, r"scale are other numbers.*torch.empty"),
    (lambda: ONE, r"the same parameters each time"),
    (seeding, r"sets torch's seed"),
    (privately, r"1.weight, 1.bias are the same numbers whatever the run's seed"),
    (numpy_seeding, r"draws from the generator of NumPy, or sets its seed"),
    (python_seeding, r"draws from the generator of Python, or sets its seed"),
    # State.
    (with_buffer, r"buffer 'count' would be kept.*constants=\('count',\)"),
    (
        lambda: nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=True), plain()),
        r"buffer '0.running_mean'.*track_running_stats=False",
    ),
    (
        lambda: plain(spectral_norm(nn.Linear(128, 128))),
        r"1 \(Linear\) has hooks.*buffer '1.weight_u'",
    ),
    (
        lambda: plain(parametrizations.spectral_norm(nn.Linear(128, 128))),
        r"1 \(.*Linear\) has a weight that is computed",
    ),
    (
        lambda: plain(parametrizations.weight_norm(nn.Linear(128, 128))),
        r"has a weight that is computed",
    ),
    (hooked, r"1 \(Linear\) has hooks"),
    (lambda: changed(plain(), scale=torch.ones(1)), r"keeps a tensor in 'scale'.*nn.Parameter"),
    (lambda: changed(plain(), norms=[nn.BatchNorm1d(3)]), r"keeps a module in 'norms'.*ModuleList"),
    (lambda: changed(plain(), b=[[nn.Linear(4, 8)]]), r"keeps a module in 'b'.*ModuleList"),
    (lambda: changed(plain(), b={"a": ({"c": torch.ones(1)},)}), r"keeps a tensor in 'b'"),
    (lambda: changed(plain(), b=lambda x, m=SQUARE: m(x)), r"keeps a module in 'b'"),
    (lambda: changed(plain(), b=partial(F.linear, weight=torch.ones(1))), r"a tensor in 'b'"),
    (lambda: changed(plain(), b=nn.Linear(4, 8).forward), r"keeps a module in 'b'"),
    (closed, r"\(Own\) keeps a module in 'weight'"),
    (body(lambda m: SQUARE.weight), r"\(Own\) keeps a module in 'weight'"),
    # Numbers that no pass is given.
    (body(lambda m: m.ws[0]), r"a pass does not go by a: .*nn.ParameterList"),
    (body(lambda m: m.a + m.ws[0]), r"a pass does not go by its parameters alone"),
    (body(lambda m: torch.from_numpy(m.view)), r"a pass does not go by a: "),
    (holding, r"a pass does not go by its parameters alone"),
    (lambda: plain(OwnNorm(128)), r"1 \(OwnNorm\) normalises in its own way"),
    # Parameters.
    (frozen, r"'1.bias' is frozen.*constants"),
    (whole_numbers, r"'steps' is torch.int64; torch.float32 is needed"),
    (lambda: plain().double(), r"'1.weight' is torch.float64"),
    (lambda: nn.DataParallel(plain()), r"\(DataParallel\) is a module around another"),
    (lambda: nn.ModuleDict({"_orig_mod": plain()}), r"is a module around another"),
    (lambda: nn.ModuleDict({"rule": plain()}), r"'rule.1.weight' begins with a name that is taken"),
    # What comes in and out.
    (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, OUTPUTS + 1)),
        r"outputs of shape \(3, 3\) are needed.*got \(3, 4\)",
    ),
    (
        lambda: nn.Linear(9, OUTPUTS),
        r"a pass over 3 examples of shape \(2, 8, 8\) fails: RuntimeError",
    ),
    (lambda: nn.Sequential(nn.ReLU(inplace=True), plain()), r"changes its input in place"),
    # The head.
    (lambda: nn.Sequential(nn.Conv2d(2, OUTPUTS, 8), nn.Flatten()), r"no linear layer"),
    (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 9), nn.AvgPool1d(3)),
        r"head '1' has 9 outputs, 3 are needed",
    ),
    (
        lambda: nn.Sequential(
            nn.Linear(8, OUTPUTS), nn.AdaptiveAvgPool3d((1, 1, OUTPUTS)), nn.Flatten()
        ),
        r"features \[n, D\]",
    ),
]


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_pure_function_is_refused_with_the_cure(make: Callable[[], Any], words: str):
    with pytest.raises(RecipeError, match=words) as refused:
        network_of(make)
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).startswith("network ")


def test_what_is_none_of_a_modules_weights_may_be_kept():
    grid, act = torch.linspace(0, 1, 128), nn.Tanh()
    module = lambda: changed(body(lambda m: act(m.a) * grid)(), sizes=[[3, "a"]])  # noqa: E731
    assert set(network_of(module).init(Key.of("any"))) == {"a", "head.weight", "head.bias"}

    def zeros() -> nn.Module:
        module = plain()
        for p in module.parameters():
            nn.init.zeros_(p)
        return module

    assert network_of(zeros).layers[-1].name == "1"
    states = np.random.get_state(legacy=True), random.getstate()
    network_of(zeros)
    assert str(np.random.get_state()) == str(states[0])
    assert random.getstate() == states[1]


def test_a_refused_factory_is_refused_again():
    for _ in range(2):
        with pytest.raises(RecipeError, match="generator of NumPy"):
            network_of(numpy_seeding)


PASSES: list[tuple[Callable[[Any, Tensor], Any], str]] = [
    (lambda m, x: m.head(nn.functional.dropout(x, 0.5)), r"draws random numbers \(F.dropout"),
    (lambda m, x: m.head(x) + np.random.rand(), r"other numbers when it is taken again"),
    (lambda m, x: (m.head(x), x), r"must return a tensor, got tuple"),
    (lambda m, x: m.head(x) * (1 if m.training else 2), r"something else in evaluation"),
    (lambda m, x: m.head(x) + 0 * m.count.add_(1), r"'count' is no constant"),
    (lambda m, x: m.head(m.head.weight.new_ones(len(x), 128)) + m.head(x), r"is called 2 times"),
    (counting, r"other numbers when it is taken again"),
]


@pytest.mark.parametrize(("forward", "words"), PASSES, ids=range(len(PASSES)))
def test_a_pass_that_is_no_pure_function_is_refused(forward: Any, words: str):
    with pytest.raises(RecipeError, match=words):
        network_of(passing(forward), constants=("count",))


def test_a_head_or_constants_that_are_not_there_are_refused():
    with pytest.raises(RecipeError, match=r"head='body' must name a linear layer.*there are 1"):
        network_of(plain, head="body")
    with pytest.raises(RecipeError, match=r"constants names 'mask', which is no buffer"):
        network_of(plain, constants=("mask",))
    with pytest.raises(RecipeError, match=r"add a comma"):
        metadist.from_module(lambda inputs, outputs: plain(), constants="mask")  # type: ignore[arg-type]


def no_default(inputs: Any, outputs: int, width: int) -> nn.Module:
    raise NotImplementedError


def no_scalar(inputs: Any, outputs: int, widths: tuple[int, ...] = (1, 2)) -> nn.Module:
    raise NotImplementedError


def rest(inputs: Any, outputs: int, **options: Any) -> nn.Module:
    raise NotImplementedError


def one(inputs: Any) -> nn.Module:
    raise NotImplementedError


def taken(inputs: Any, outputs: int, norm: str = "batch") -> nn.Module:
    raise NotImplementedError


def shadows(inputs: Any, outputs: int, copy: bool = True) -> nn.Module:
    raise NotImplementedError


def wrong(inputs: Any, outputs: int, width: str = "wide") -> nn.Module:
    raise NotImplementedError


def unknown(inputs: Any, outputs: int, width: int = 3) -> nn.Module:
    raise NotImplementedError


wrong.__annotations__ = {"width": int}
unknown.__annotations__ = {"width": "Wide"}


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (no_default, "option 'width' needs a default"),
        (no_scalar, "option 'widths' must be one value"),
        (rest, "option 'options' must be an argument of its own"),
        (one, r"is called with \(inputs, outputs, \*\*options\).*it takes \(inputs"),
        (taken, "option 'norm' is a name that is taken"),
        (shadows, "option 'copy' is a name that is taken"),
        (wrong, "default.width"),
        (unknown, "its types cannot be read"),
        (3, "a function that makes a module"),
    ],
)
def test_a_factory_with_other_arguments_is_refused(factory: Any, words: str):
    with pytest.raises(MetadistError, match=words):
        metadist.from_module(factory)
