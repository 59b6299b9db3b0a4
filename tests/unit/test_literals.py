"""No kind of task, metric or learner is named in shared code; and whoever names one is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from literals import ROOT, findings


def found_in(root: Path, source: str, file: str = "report/page.py") -> list[str]:
    """What is found of a file that stands in a package with two learners."""
    for name in ("maml", "nearest_pixels"):
        learner = root / "metadist" / "algorithms" / f"{name}.py"
        learner.parent.mkdir(parents=True, exist_ok=True)
        learner.write_text(f"NAME = {name!r}\n")
    path = root / "metadist" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return [finding.what for finding in findings(root)]


@pytest.mark.slow
def test_shared_code_names_none():
    assert list(map(str, findings(ROOT))) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("kind = 'classification'", "kind of task 'classification'"),
        ("def f(kind='regression'): ...", "kind of task 'regression'"),
        ("if score == 'accuracy': pass", "metric 'accuracy'"),
        ("if 'mse' in result: pass", "metric 'mse'"),
        ("x = score in ('val/accuracy', 'loss')", "metric 'val/accuracy'"),
        ("title = {'mse': 'mean squared error'}[score]", "metric 'mse'"),
        ("x = result['accuracy']", "metric 'accuracy'"),
        ("x = result.get('accuracy')", "metric 'accuracy'"),
        ("match score:\n    case 'mse': pass", "metric 'mse'"),
        ("if metric == ACCURACY: pass", "metric ACCURACY decides"),
        ("x = objectives.MSE is not metric", "metric MSE decides"),
        ("x = metric in (MSE, NLL)", "metric NLL decides"),
        ("if ACCURACY.name in result: pass", "metric ACCURACY decides"),
        ("match metric:\n    case objectives.MSE: pass", "metric MSE decides"),
        ("if recipe.algorithm.name == 'toy': pass", "compared with 'toy'"),
        ("if model in ('conv4', 'mlp'): pass", "compared with 'conv4'"),
        ("if 'conv4' != self.model.name: pass", "compared with 'conv4'"),
        ("from metadist.algorithms import maml", "learner 'maml' is imported"),
        ("import metadist.algorithms.maml", "learner 'maml' is imported"),
        ("build = algorithms.nearest_pixels.build", "learner 'nearest_pixels' is imported"),
        ("text = f'try strokes-5w1s-maml with {x}'", "learner 'maml' in a text"),
        ("text = f'<b>{name}</b>'", "markup '<b>' in a text"),
        ("text = '<svg id=1'", "markup '<svg ' in a text"),
        ("text = f'{x}</td>'", "markup '</t' in a text"),
    ],
)
def test_what_names_one_is_found(tmp_path, source, said):
    found = found_in(tmp_path, source)
    assert any(said in what for what in found), found


@pytest.mark.parametrize(
    "source",
    [
        '"""Of classification, by accuracy, as maml has it."""',
        "x = 1  # maml, 'regression'",
        "text = f'{shots}-shot regression, mean accuracy of MAML'",
        "if metric.name == name: pass",
        "if recipe.algorithm.name == base.algorithm.name: pass",
        "if recipe.model.name == '': pass",
        "if status == 'finished': pass",
        "maml = 3",
        '"""A page has a <b> here and there."""',
        "text = r'(?P<path>[^?]+)'; told = '<quantity>_min, <class>, a < b'",
        "x = {ACCURACY.name: right / queries}",
    ],
)
def test_what_names_none_is_not_found(tmp_path, source):
    assert found_in(tmp_path, source) == []


def test_objectives_and_learners_know_themselves(tmp_path):
    for file in ("objectives/classification.py", "objectives/__init__.py"):
        assert found_in(tmp_path, "KIND = {'accuracy': 'classification'}", file) == []
    assert found_in(tmp_path, "from metadist.algorithms import maml", "algorithms/anil.py") == []
    assert found_in(tmp_path, "KINDS = ('regression',)", "algorithms/anil.py") != []
