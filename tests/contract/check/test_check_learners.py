"""Faults planted in learners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import Fault, check_found, fault, written
from tiers import one_in

import metadist


def learner(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    """In the learner that has no inner loop, looked at on functions of labels."""
    return fault("prototypes", check, words, *edits, level=level)


def method(text: str, of: str = "    def init(self, key):") -> tuple[str, str]:
    """A further method of the learner."""
    return of, f"{text}\n\n{of}"


LOSS = "        prediction = self.predict(fitted, task.query, ctx)\n"
ADAPT = "        return [self.means(params, task, ctx)[0]]\n"
PREDICTED = "        return Prediction(-away / self.options.temperature)\n"
EXPLAINS = "from metadist.learner import Loss", "from metadist.learner import Explanation, Loss"
EXPLAINED = """    def explanation(self, fitted, query, ctx):
        return Explanation(fitted[2].x.flatten(1)"""

LEARNERS = [
    learner(
        "docstring",
        "docstring",
        ('"""Nearest prototypes.\n', 'x = """Nearest prototypes.\n'),
        level="warning",
    ),
    learner(
        "options",
        "'temperature'",
        ('    """``temperature``: of the distances."""', "    # None."),
        level="warning",
    ),
    learner(
        "hooks",
        ("learned_quantites", "call it 'learned_quantities'"),
        method("    def learned_quantites(self, params):\n        return {}"),
        level="warning",
    ),
    learner(
        "hooks",
        ("begin", "call it 'statistics' or 'initial_state'"),
        method("    def begin(self, ctx):\n        return {}"),
        level="warning",
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
        "statistics",
        "Normalised: define recorded(fitted)",
        ("    def loss(self, params, task, ctx):", "    def _loss(self, params, task, ctx):"),
    ),
    learner(
        "finite",
        ("the gradient of", "is NaN", "a root or a division of 0?"),
        (PREDICTED, "        away = away + 0 * (away - away).sqrt()\n" + PREDICTED),
    ),
    learner(
        "chance",
        ("3 % of 30", "look at the sign"),
        ("Prediction(-away", "Prediction(away"),
        level="note",
    ),
    learner(
        "learned quantities",
        ("at most 1000 numbers", "of usual size"),
        method(
            "    def learned_quantities(self, params):\n"
            "        return {'w': {n: p.flatten().tolist() for n, p in params.items()}}"
        ),
        level="warning",
    ),
    learner(
        "runs",
        ("Prediction.mean [6, 3] for 6 queries of 3 ways", "[6, 2], which predict() returned"),
        (PREDICTED, "        away = away[:, :2]\n" + PREDICTED),
    ),
    learner(
        "predictions",
        "NaN or infinity",
        (PREDICTED, "        away = away / (away[:1, :1] - away[:1, :1])\n" + PREDICTED),
    ),
    learner("runs", "3 elements, or one element", (ADAPT, ADAPT.rstrip() + " * 2\n")),
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
        "explanation",
        ("query [6, ", "metadist.learner.Explanation"),
        EXPLAINS,
        method(f"{EXPLAINED}, query.x.flatten(1)[:1])"),
    ),
    learner(
        "explanation",
        ("rows that sum to at most 1", "after the softmax"),
        EXPLAINS,
        method(f"{EXPLAINED}, query.x.flatten(1), attention={{'a': query.x.new_ones(6, 6)}})"),
    ),
    learner(
        "pair scores",
        "a row for each query",
        method("    def pair_scores(self, fitted, query, ctx):\n        return query.x[:, :1]"),
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


@pytest.mark.parametrize("planted", one_in(5, LEARNERS), ids=str)
def test_a_planted_fault_is_found(tmp_path: Path, planted: Fault):
    check_found(tmp_path, planted)


def test_what_does_not_run_is_not_looked_at_further(tmp_path: Path):
    path = written(tmp_path, "prototypes", (ADAPT, "        return [0]\n"))
    report = metadist.check(path)
    (finding,) = report.of("error")
    assert finding.check == "runs"
    line = path.read_text().splitlines().index("        params, means, support = fitted") + 1
    assert finding.where == f"prototypes.py:{line}"
    assert report.of("note")[0].demanded == "a learner that adapts, predicts and trains once"
    assert set(report.passed) <= {"docstring", "options", "hooks", "builds", "known needs", "needs"}


def test_an_error_in_this_package_names_the_call_that_it_comes_from(tmp_path: Path):
    path = written(
        tmp_path, "prototypes", ("return Loss(value, metrics, sums)", "return value, metrics")
    )
    (finding,) = metadist.check(path).of("error")
    line = path.read_text().splitlines().index("        return value, metrics") + 1
    assert finding.where == f"prototypes.py:{line}"
    assert "loss() returns" in finding.mend
    assert "this line" not in str(finding)


def test_a_gradient_that_is_not_finite_is_told_once_and_as_such(tmp_path: Path):
    root = "        away = away + 0 * (away - away).sqrt()\n" + PREDICTED
    report = metadist.check(written(tmp_path, "prototypes", (PREDICTED, root)))
    (finding,) = report.of("error")
    assert finding.check == "finite"
    assert "pure" in report.passed


@pytest.mark.slow
def test_missing_words_stop_nothing(tmp_path: Path):
    report = metadist.check(
        written(
            tmp_path,
            "prototypes",
            ('"""Nearest prototypes.\n', 'x = """Nearest prototypes.\n'),
            ('    """``temperature``: of the distances."""', "    # None."),
        )
    )
    assert report.ok
    assert "learns" in report.passed
