"""``metadist check``: right parts pass, and each planted fault is found by its check's words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checked_parts import PARTS
from click.testing import CliRunner, Result
from PIL import Image

import metadist
from data_pipeline import registry
from metadist import plugins
from metadist.cli.main import main
from metadist.contracts import KINDS, Report
from metadist.errors import PluginError, RecipeError


def written(folder: Path, name: str, *edits: tuple[str, str]) -> Path:
    """A part as a plugin, with texts in it replaced by others."""
    text = PARTS[name].format(name=name) if "{name}" in PARTS[name] else PARTS[name]
    for old, new in edits:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Fault:
    """A fault planted in a right part.

    Attributes:
        check: that finds it.
        words: that are said.
    """

    part: str
    check: str
    words: tuple[str, ...]
    edits: tuple[tuple[str, str], ...]
    level: str = "error"

    def __str__(self) -> str:
        return f"{self.part}-{self.check}-{self.words[0]}".replace(" ", "_")


def fault(
    part: str,
    check: str,
    words: str | tuple[str, ...],
    *edits: tuple[str, str],
    level: str = "error",
) -> Fault:
    return Fault(part, check, (words,) if isinstance(words, str) else words, edits, level)


def learner(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    """In the learner that has no inner loop, looked at on functions of labels."""
    return fault("prototypes", check, words, *edits, level=level)


def method(text: str, of: str = "    def init(self, key):") -> tuple[str, str]:
    """A further method of the learner."""
    return of, f"{text}\n\n{of}"


LOSS = "        prediction = self.predict(fitted, task.query, ctx)\n"
ADAPT = "        return [self.means(params, task, ctx)[0]]\n"
PREDICTED = "        return Prediction(-away / self.options.temperature)\n"

LEARNERS = [
    learner("docstring", "docstring", ('"""Nearest prototypes.\n', 'x = """Nearest prototypes.\n')),
    learner(
        "options", "'temperature'", ('    """``temperature``: of the distances."""', "    # None.")
    ),
    learner(
        "estimator",
        ("derivative of loss", "central differences are", "second_order=True"),
        (
            "        return (params, means, task.support)",
            "        return (params, means.detach(), task.support)",
        ),
    ),
    learner(
        "estimator",
        "the derivative itself",
        method("    estimator = 'first-order'"),
        level="warning",
    ),
    learner("derivative order", "derivative_order 1", method("    derivative_order = 2")),
    learner("metrics", "metric_names declares", method("    metric_names = ('loss', 'extra')")),
    learner(
        "metrics",
        "without a graph",
        (LOSS, LOSS),
        (
            "        training = ",
            "        metrics = {**metrics, 'loss': value}\n        training = ",
        ),
    ),
    learner(
        "statistics",
        "statistics that are declared",
        ("return Loss(value, metrics, sums)", "return Loss(value, metrics, {})"),
    ),
    learner(
        "statistics",
        "float64",
        (
            "return Loss(value, metrics, sums)",
            "return Loss(value, metrics, {n: s.float() for n, s in sums.items()})",
        ),
    ),
    learner(
        "statistics",
        "after update_state",
        method("    def update_state(self, state, means, new_params, ctx):\n        return {}"),
    ),
    learner(
        "step scalars",
        "step_scalar_names declares",
        method(
            "    def step_scalars(self, params, task, ctx):\n"
            "        return {'before': task.support.x.mean()}"
        ),
    ),
    learner(
        "pure",
        "global generator of torch",
        (PREDICTED, "        away = away + torch.rand(())\n" + PREDICTED),
    ),
    learner(
        "pure",
        "global generator of NumPy",
        (
            PREDICTED,
            "        import numpy\n        away = away + numpy.random.rand()\n" + PREDICTED,
        ),
    ),
    learner(
        "pure",
        "other ones the second time",
        (
            PREDICTED,
            "        import time\n        away = away + time.perf_counter_ns() % 1e4\n" + PREDICTED,
        ),
    ),
    learner(
        "pure",
        "an attribute of Prototypes",
        (ADAPT, "        self.objective.__dict__.setdefault('met', []).append(1)\n" + ADAPT),
    ),
    learner(
        "pure",
        "changed in place",
        (ADAPT, "        task.support.x.mul_(0.5)\n" + ADAPT),
    ),
    learner(
        "fresh parameters",
        "global generator of torch",
        (
            "        return self.encoder.init(key)",
            "        return {n: torch.randn(p.shape) for n, p in self.encoder.init(key).items()}",
        ),
    ),
    learner(
        "fresh parameters",
        "float64",
        (
            "        return self.encoder.init(key)",
            "        return {n: p.double() for n, p in self.encoder.init(key).items()}",
        ),
    ),
    learner(
        "vmap",
        (".item()", "engine.mode"),
        (PREDICTED, "        away = away + 0 * means.sum().item()\n" + PREDICTED),
        level="warning",
    ),
    learner(
        "vmap",
        "differ by",
        (PREDICTED, "        away = away * (2 if ctx.functional else 1)\n" + PREDICTED),
    ),
    learner(
        "never trained",
        ("idle", "never trained"),
        (
            "        return self.encoder.init(key)",
            "        return {**self.encoder.init(key), 'idle': key.normal((2,))}",
        ),
        level="warning",
    ),
    learner("types", "float32", (PREDICTED, "        away = away.float()\n" + PREDICTED)),
    learner(
        "needs",
        ("query_x", "has not declared"),
        (ADAPT, "        task.query.x.mean()\n" + ADAPT),
    ),
    learner(
        "needs",
        ("unlabeled", "has not declared"),
        (ADAPT, "        task.unlabeled.x.mean()\n" + ADAPT),
    ),
    learner(
        "needs",
        ("class_ids", "has not declared"),
        (ADAPT, "        task.info['class_ids']\n" + ADAPT),
    ),
    learner("known needs", "'query_y'", method("    needs = frozenset({'query_y'})")),
    learner(
        "query labels",
        "labels of the queries",
        ("class Options", "MET = {}\n\n\nclass Options"),
        (LOSS, LOSS + "        MET[float(task.query.x.sum())] = task.query.y\n"),
        (
            PREDICTED,
            "        known = MET.get(float(query.x.sum()))\n"
            "        if known is not None:\n"
            "            away = away - (known[:, None] == torch.arange(self.ways)) * 1.0\n"
            + PREDICTED,
        ),
    ),
    learner(
        "queries",
        ("with fewer beside it", "'query_x'"),
        (PREDICTED, "        away = away - away.mean(0)\n" + PREDICTED),
    ),
    learner(
        "queries",
        "in another order",
        (PREDICTED, "        away = away + torch.arange(len(away))[:, None]\n" + PREDICTED),
    ),
    learner(
        "noise",
        "other noise for another key",
        method("    def noise(self, key, ctx):\n        return {'z': torch.ones(2)}"),
    ),
    learner(
        "predictions",
        "Prediction.mean [6, 3]",
        (PREDICTED, "        away = away[:, :2]\n" + PREDICTED),
    ),
    learner(
        "predictions",
        "NaN or infinity",
        (PREDICTED, "        away = away / (away[:1, :1] - away[:1, :1])\n" + PREDICTED),
    ),
    learner("predictions", "1 or 3 elements", (ADAPT, ADAPT.rstrip() + " * 2\n")),
    learner(
        "learned quantities",
        "finite floats",
        method(
            "    def learned_quantities(self, params):\n        return {'w': {'a': [float('nan')]}}"
        ),
    ),
    learner(
        "activations",
        "a row for each query",
        method("    def activations(self, fitted, query, ctx):\n        return {'a': query.x[:1]}"),
    ),
    learner(
        "gradient form",
        "a gradient for every parameter",
        method(
            "    def gradient(self, params, task, ctx):\n"
            "        g, loss = super().gradient(params, task, ctx)\n"
            "        return dict(list(g.items())[1:]), loss"
        ),
    ),
    learner(
        "learns",
        "a loss that falls",
        ("return Loss(value, metrics, sums)", "return Loss(-value, metrics, sums)"),
        level="warning",
    ),
    learner(
        "workers",
        "1 worker and 3",
        ("class Options", "LAST = [0.0, 0.0]\n\n\nclass Options"),
        (
            LOSS,
            "        now = float(task.support.x.sum())\n"
            "        if now != LAST[1]:\n"
            "            LAST[:] = [LAST[1], now]\n"
            "        fitted = (fitted[0], fitted[1] * (1 + LAST[0] % 1), fitted[2])\n" + LOSS,
        ),
    ),
    learner("ways", "predictions of 4 ways", ("away / self", "away[:, :3] / self")),
    learner(
        "builds",
        ("prototypes.py:", "ZeroDivisionError"),
        ("def build(parts):\n", "def build(parts):\n    1 / 0\n"),
    ),
    fault(
        "own_maml",
        "derivative order",
        "derivative_order 1",
        ("parts.inner_loop(Own)", "parts.inner_loop(Own, second_order=False)"),
        ('    """MAML."""', "    derivative_order = 2"),
    ),
    fault(
        "own_maml",
        "estimator",
        "as the estimator 'exact' says",
        ("parts.inner_loop(Own)", "parts.inner_loop(Own, second_order=False)"),
        ('    """MAML."""', "    estimator = 'exact'"),
    ),
]

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


def judged(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    return fault("laplace", check, words, *edits, level=level)


MEAN = "(away + (2 * prediction.scale).log()).mean()"
OBJECTIVES = [
    judged("declared", "name = 'laplace'", ('name = "laplace"', 'name = "other"')),
    judged(
        "declared", "train_metrics", ('train_metrics = ("error",)', 'train_metrics = ("errors",)')
    ),
    judged(
        "declared",
        "'mse' as metadist knows it",
        ('"error"', '"mse"'),
        ('"mean absolute error"', '"mean"'),
    ),
    judged(
        "loss",
        "central differences",
        (MEAN, "(away.detach() + (2 * prediction.scale).log() * away).mean()"),
    ),
    judged("loss", "a finite scalar", (MEAN, MEAN.replace(".mean()", ".mean(0)"))),
    judged("loss", "float32", (MEAN, MEAN + ".double()")),
    judged(
        "fused",
        "squared_error",
        ("    train_metrics", '    fused = "squared_error"\n    train_metrics'),
    ),
    judged("score", "a score of each of metrics", (', "error": error', "")),
    judged(
        "score", "global generator of NumPy", (MEAN, MEAN + " + __import__('numpy').random.rand()")
    ),
    judged("order", "in another order", (MEAN, "(away[0] + (2 * prediction.scale).log()).mean()")),
    judged("counts", "count_shapes", ('{"near": (), "values": ()}', '{"near": ()}')),
    judged("counts", "int64", ("(away < 2).sum()", "(away < 2).double().sum()")),
    judged(
        "counts", ("laplace.py:", "ZeroDivisionError"), (' if sums["values"] else math.nan', "")
    ),
    judged(
        "average",
        "judged as that one",
        (
            "    def counts",
            "    def average(self, predictions, how):\n"
            "        one = super().average(predictions, how)\n"
            "        return type(one)(one.mean, 2 * one.scale)\n\n"
            "    def counts",
        ),
    ),
    judged(
        "better",
        "higher_is_better = True",
        ('"negative log-density", higher_is_better=False', '"density", higher_is_better=True'),
    ),
    judged("better", "lower loss", (MEAN, "-" + MEAN)),
    judged(
        "better",
        "failed = 0",
        (
            '"negative log-density", higher_is_better=False',
            '"density", higher_is_better=False, failed=0.0',
        ),
    ),
    judged(
        "bare",
        "RecipeError",
        (
            "        if prediction.scale is None:\n"
            '            raise RecipeError("a scale is needed, and this learner predicts none")\n',
            "",
        ),
    ),
    judged("targets", "TARGETS", ('TARGETS = ("values",)', 'TARGETS = ("values", "things")')),
]


def data(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    return fault("squares", check, words, *edits, level=level)


DATA = [
    data("spec", "SPEC.licence", ('"CC0"', '""')),
    data("images", "float64", ("np.uint8", "np.float64")),
    data("images", "uint8 [8, 8, 1] was declared", ("np.full((8, 8, 1)", "np.full((8, 9, 1)")),
    data(
        "images",
        "others the second time",
        ("import numpy as np", "import itertools\nimport numpy as np\nMADE = itertools.count()"),
        ("+ copy", "+ (copy + next(MADE)) % 16"),
    ),
    data("images", "classes must be sorted", ("kind:02d", "9 - kind:02d")),
    data(
        "images",
        "such as 'square00'",
        ("square{5 * number + kind:02d}", "square{kind:02d}"),
        level="warning",
    ),
    data(
        "images",
        "pixel for pixel",
        ("level = 16 * (5 * number + kind)", "level = 16 * kind"),
        level="warning",
    ),
    data("images", "5 classes or more", ("range(5)", "range(3)"), level="warning"),
    data("needs a source", "--source", (", embedded=True", ""), level="warning"),
    fault("lines", "spec", "SPEC.summary", ('"y = a x"', '""')),
    fault("lines", "shapes", "y [7, 1]", ("numbers[0] * x,", "numbers[0] * x[:, 0],")),
    fault(
        "lines",
        "shapes",
        "finite float64 y",
        ("numbers[0] * x,", "numbers[0] / (x - x),"),
        ("import numpy as np\n", "import numpy as np\nnp.seterr(all='ignore')\n"),
    ),
    fault("lines", "pure", "generator of NumPy", ("numbers[0] * x,", "np.random.rand() * x,")),
    fault(
        "lines",
        "pure",
        "from another stream",
        ("stream.uniforms(1 + points)", "np.linspace(0, 1, 1 + points) ** 2 * 1.0"),
    ),
    fault("lines", "points", "others: x, y", ("x = numbers[1:, None]", "x = numbers[:0:-1, None]")),
    fault("points", "spec", "SPEC.summary", ('"points around centres"', '""')),
    fault(
        "points",
        "episodes",
        "another when it is drawn again",
        ("4.0 * Stream", "np.random.rand() * Stream"),
    ),
    fault(
        "points",
        "episodes",
        "global generator of NumPy",
        ("        centres = ", "        np.random.rand()\n        centres = "),
    ),
    fault(
        "points",
        "episodes",
        "missing ['query_y']",
        ('columns[f"{name}_y"] = labels', "columns.setdefault('support_y', labels)"),
    ),
    fault("points", "episodes", "each of 5 ways", ("% spec.ways\n", "% (spec.ways - 1)\n")),
    fault(
        "points",
        "queries",
        "with more queries",
        ("Stream(self._key, index)", "Stream(self._key, index + 100 * spec.queries)"),
        level="warning",
    ),
    fault(
        "points", "parts differ", "the same", ('fold("points", part, seed)', 'fold("points", seed)')
    ),
    fault("points", "draws something", "neither", ("if not spec.ways", "if True")),
    fault("rates", "declared", "0 < low < high", ("1e-3, 1e-1", "1e-1, 1e-3")),
    fault(
        "rates", "base", "sinusoid-10shot-mam", ('"sinusoid-10shot-maml"', '"sinusoid-10shot-mam"')
    ),
    fault("rates", "ends", "inner.lrr", ("inner.lr", "inner.lrr")),
]

FAULTS = [*LEARNERS, *BACKBONES, *OBJECTIVES, *DATA]


def seen(report: Report) -> str:
    """For people whose test fails."""
    return f"{report}\n" + "\n".join(f.trace for f in report.findings)


@pytest.mark.parametrize("name", PARTS)
def test_a_right_part_passes(tmp_path: Path, name: str):
    report = metadist.check(written(tmp_path, name))
    assert report.ok, seen(report)
    assert not report.of("warning"), seen(report)
    assert report.passed == report.checks
    assert report.name == name


@pytest.mark.parametrize("planted", FAULTS, ids=str)
def test_a_planted_fault_is_found(tmp_path: Path, planted: Fault):
    report = metadist.check(written(tmp_path, planted.part, *planted.edits))
    hits = [
        finding
        for finding in report.findings
        if finding.check == planted.check
        and finding.level == planted.level
        and all(word in str(finding) for word in planted.words)
    ]
    assert hits, seen(report)
    assert report.ok == (not report.of("error"))
    assert all("\n" not in str(finding) for finding in report.findings)


def test_every_kind_of_part_is_covered():
    kinds = {
        line.split('"')[1]
        for text in PARTS.values()
        for line in text.splitlines()
        if line.startswith("PART = ")
    }
    assert kinds == set(KINDS) == set(registry.EXPORTS)


KINDS_HERE = [
    pytest.param(kind, marks=[pytest.mark.slow] if kind in ("algorithm", "dataset") else [])
    for kind in KINDS
]


@pytest.mark.parametrize("kind", KINDS_HERE)
def test_every_part_of_this_package_keeps_its_contract(kind: str):
    for name in registry.builtin_names(plugins.package(kind)):
        report = metadist.check(f"{kind}.{name}")
        assert report.ok, seen(report)


def test_a_name_is_a_part_and_so_is_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    written(tmp_path, "lines")
    assert metadist.check("lines").kind == "function"
    assert metadist.check("sinusoid").name == "sinusoid"
    assert metadist.check("tune_space.maml-lr").name == "maml_lr"
    with pytest.raises(PluginError, match="metadist check NAME"):
        metadist.check("nobody")


def test_options_are_the_parts_own():
    report = metadist.check("fomaml", options=["adapt_norm=true"])
    assert "adapt_norm = True" in report.on[0]
    with pytest.raises(RecipeError, match="adapt_norms"):
        metadist.check("objective.density", options=["adapt_norms=true"])


def test_a_source_is_looked_at(tmp_path: Path):
    for part in ("train", "val", "test"):
        for kind in range(5):
            for copy in range(2):
                path = tmp_path / part / f"{part}-{kind}" / f"{copy}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full(
                    (30, 30, 3), (40 * kind + copy + 7 * ord(part[1])) % 256, dtype=np.uint8
                )
                Image.fromarray(pixels).save(path)
    report = metadist.check("image_folder", source=tmp_path)
    assert report.ok, seen(report)
    assert "images" in report.checks


def test_what_a_report_says(tmp_path: Path):
    path = written(
        tmp_path, "prototypes", ("def build(parts):\n", "def build(parts):\n    1 / 0\n")
    )
    report = metadist.check(str(path))
    (finding,) = report.of("error")
    assert not report.ok
    line = path.read_text().splitlines().index("    1 / 0") + 1
    assert finding.where == f"prototypes.py:{line}"
    assert finding.got == "ZeroDivisionError: division by zero"
    assert "Traceback" in finding.trace
    assert str(report).splitlines()[-1] == "algorithm prototypes: 3 checks, 1 error, no warnings"
    document = report.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert document["findings"][0]["where"] == finding.where


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["check", *words], prog_name="metadist")


def test_the_command_says_the_same(tmp_path: Path):
    right = run(str(written(tmp_path, "lines")), "--json")
    assert right.exit_code == 0
    assert json.loads(right.stdout)["ok"] is True
    wrong = written(tmp_path, "squares", ("np.uint8", "np.float64"))
    said = run(str(wrong))
    assert said.exit_code == 1
    assert said.stdout.startswith("error    images: demanded ")
    assert "Traceback" not in said.output
    written(tmp_path, "lines", ("    return x,", "    1 / 0\n    return x,"))
    assert "Traceback" not in run(str(tmp_path / "lines.py")).output
    assert "1 / 0" in run(str(tmp_path / "lines.py"), "--traceback").output
    assert run("nobody").exit_code == 1


def test_neither_ray_nor_mlflow_nor_a_directory_is_needed(tmp_path: Path):
    path = written(tmp_path, "own_maml")
    program = (
        f"import metadist, sys; assert metadist.check({str(path)!r}).ok; "
        "print([m for m in ('ray', 'mlflow') if m in sys.modules])"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=empty, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert not list(empty.iterdir())


PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_page_says_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    files = re.findall(r"^```python$\n(.*?)^```$", PAGE, re.S | re.M)
    outputs = re.findall(r"^    \$ metadist check (\S+)\n((?:    .*\n)+)", PAGE, re.M)
    assert len(outputs) == 2
    for text, (typed, output) in zip(files, outputs, strict=False):
        Path(typed).write_text(text, encoding="utf-8")
        said = run(typed)
        assert " ".join(said.stdout.split()) == " ".join(output.split())
    exec(compile(files[2], "plugins.md", "exec"), {})
    assert f"    {capsys.readouterr().out}" in PAGE
