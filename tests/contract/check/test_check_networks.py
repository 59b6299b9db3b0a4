"""Faults planted in networks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from planted import Fault, check_found, fault, seen

import metadist

FORWARD = '        x = hook("conv", F.conv2d(x, params["conv.weight"], stride=2))\n'
HOOKED = 'value = hook("head", F.linear(features, params["head.weight"], params["head.bias"]))'
NORMALISED = (
    '        x = normalise(x, "norm", params["norm.scale"], params["norm.shift"], norm, '
    "statistics)\n"
)


def network(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    return fault("small", check, words, *edits, level=level)


BACKBONES = [
    network(
        "fresh parameters",
        "generator of torch",
        ("torch.zeros(self.outputs)", "torch.randn(self.outputs)"),
    ),
    network(
        "fresh parameters",
        "float64",
        ("torch.zeros(self.outputs)", "torch.zeros(self.outputs).double()"),
    ),
    network(
        "layers",
        "none called conv.bias",
        ('Layer("conv", self.filters, False)', 'Layer("conv", self.filters, True)'),
    ),
    network(
        "layers",
        "head of 3 outputs",
        ('Layer("head", self.outputs, True)', 'Layer("head", 2, True)'),
    ),
    network(
        "layers",
        ("norm_parameters", "norm.scale", "norm.scal"),
        ('{"norm.scale", "norm.shift"}', '{"norm.scal", "norm.shift"}'),
    ),
    network(
        "outputs", "with head=False", ("return Output(features, features", "return Output(x, x")
    ),
    network(
        "outputs",
        "features that enter the head",
        ("return Output(value, features,", "return Output(value, features * 2,"),
    ),
    network("outputs", "float32", ("return Output(value,", "return Output(value.double(),")),
    network("pure", "generator of torch", (FORWARD, FORWARD + "        x = F.dropout(x)\n")),
    network("pure", "changed in place", (FORWARD, "        x.mul_(0.5)\n" + FORWARD)),
    network(
        "examples apart",
        "norm.kind is 'off'",
        (NORMALISED, NORMALISED + "        x = x - x.mean(0)\n"),
    ),
    network(
        "normalisation",
        "recorded statistics",
        (
            NORMALISED,
            NORMALISED
            + "        statistics = {n: (m, v * 1.5) for n, (m, v) in statistics.items()}\n",
        ),
    ),
    network(
        "normalisation",
        "each of norm_layers",
        ('{"norm": self.filters}', '{"norms": self.filters}'),
    ),
    network(
        "normalisation",
        "'off'",
        (
            NORMALISED,
            "        from metadist.backbones import Norm\n"
            "        norm = Norm('batch', norm.record) if norm.kind == 'off' else norm\n"
            + NORMALISED,
        ),
    ),
    network(
        "layer hook",
        "each of `layers`",
        (HOOKED, HOOKED.replace('hook("head", ', "(").replace("))", ")))")[:-1]),
    ),
    network(
        "layer hook",
        "do not change with it at conv",
        (
            FORWARD,
            FORWARD.replace("x = hook", "y = hook")
            + '        x = F.conv2d(x, params["conv.weight"], stride=2)\n',
        ),
    ),
    network("gradient", "first derivative", ("torch.tanh(x)", "torch.tanh(x + x.detach())")),
    network(
        "second gradient",
        "second derivative",
        ("torch.tanh(x)", "Tanh.apply(x)"),
        (
            "class Options",
            "class Tanh(torch.autograd.Function):\n"
            "    generate_vmap_rule = True\n\n"
            "    @staticmethod\n"
            "    def forward(x):\n"
            "        return torch.tanh(x)\n\n"
            "    @staticmethod\n"
            "    def setup_context(ctx, inputs, output):\n"
            "        ctx.save_for_backward(output)\n\n"
            "    @staticmethod\n"
            "    def backward(ctx, g):\n"
            "        return g * (1 - ctx.saved_tensors[0].detach() ** 2)\n\n\n"
            "class Options",
        ),
    ),
    network(
        "vmap",
        "engine.mode",
        (FORWARD, FORWARD + "        x = x + 0 * float(x.sum())\n"),
        level="warning",
    ),
    network(
        "loss gradient",
        "as of the tape",
        (
            "    def forward(self",
            "    def loss_gradient(self, params, wrt, examples, norm, objective, scale):\n"
            "        from metadist.tasks import Prediction\n"
            "        passed = self.forward(params, examples.x, norm)\n"
            "        loss = scale * objective.loss(Prediction(passed.value), examples)\n"
            "        at = [params[n] for n in wrt]\n"
            "        found = torch.autograd.grad(loss, at, create_graph=True)\n"
            "        return loss, {n: 1.01 * g for n, g in zip(wrt, found)}, passed.statistics\n\n"
            "    def forward(self",
        ),
    ),
    network(
        "loss gradient",
        "second derivatives",
        (
            "    def forward(self",
            "    def loss_gradient(self, params, wrt, examples, norm, objective, scale):\n"
            "        from metadist.tasks import Prediction\n"
            "        passed = self.forward(params, examples.x, norm)\n"
            "        loss = scale * objective.loss(Prediction(passed.value), examples)\n"
            "        at = [params[n] for n in wrt]\n"
            "        found = torch.autograd.grad(loss, at, create_graph=True)\n"
            "        pairs = zip(wrt, found)\n"
            "        half = {n: (g + g.detach()) / 2 for n, g in pairs}\n"
            "        return loss, half, passed.statistics\n\n"
            "    def forward(self",
        ),
    ),
    network("takes something", "none", ("len(shape.inputs) != 3", "True")),
]


@pytest.mark.parametrize("planted", BACKBONES, ids=str)
def test_a_planted_fault_is_found(tmp_path: Path, planted: Fault):
    check_found(tmp_path, planted)


TWICE = '''"""One layer, twice."""

from torch import nn

import metadist

PART = "backbone"


class Twice(nn.Module):
    """Flattened, through the same layer two times."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.into = nn.Linear(inputs[0] if len(inputs) == 1 else 0, 4)
        self.same = nn.Linear(4, 4)
        self.head = nn.Linear(4, outputs)

    def forward(self, x):
        return self.head(self.same(self.same(self.into(x).tanh()).tanh()))


Options, build = metadist.from_module(Twice)
NORMALISES = False
'''


def test_a_layer_that_is_called_twice_is_met_twice(tmp_path: Path):
    path = tmp_path / "twice.py"
    path.write_text(TWICE, encoding="utf-8")
    report = metadist.check(path)
    assert report.ok, seen(report)
    assert "layer hook" in report.passed


def test_a_large_network_is_checked_small_and_it_is_said(tmp_path: Path):
    path = tmp_path / "twice.py"
    wide = TWICE.replace("outputs):", "outputs, width: int = 9_000):").replace("4", "width")
    path.write_text(wide + 'SMALL = {"width": 4}\n', encoding="utf-8")
    assert metadist.check(path).on == ("inputs [2], width = 4", "inputs [7], width = 4")
    assert metadist.check(path, options=["width=3"]).on == ("inputs [2]", "inputs [7]")


def test_no_finding_tells_people_of_a_private_module():
    package = Path(metadist.__file__).parent / "contracts"
    told = [
        line
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"metadist(\.\w+)*\._", line) and "import" not in line
    ]
    assert told == []
