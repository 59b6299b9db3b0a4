"""Faults planted in datasets, functions, sources of episodes and search spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pages import files
from planted import Fault, check_found, fault, seen, written

import metadist
from metadist.cli.main import main


def data(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    return fault("squares", check, words, *edits, level=level)


DATA = [
    data("spec", "SPEC.licence", ('"CC0"', '""')),
    data("images", ("float64", "astype(np.uint8)"), ("np.uint8", "np.float64")),
    data("images", "pixels[:, :, None]", ("np.full((8, 8, 1)", "np.full((8, 8)")),
    data("images", "uint8 [8, 8, 1] was declared", ("np.full((8, 8, 1)", "np.full((8, 9, 1)")),
    data(
        "images",
        "others the second time",
        ("import numpy as np", "import itertools\nimport numpy as np\nMADE = itertools.count()"),
        ("+ copy", "+ (copy + next(MADE)) % 16"),
    ),
    data("images", ("classes must be sorted", "{number:02d}"), ("kind:02d", "9 - kind:02d")),
    data(
        "images",
        ("such as 'square00'", "{part}-{number:02d}"),
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
    fault(
        "lines", "shapes", ("y [7, 1]", "y[:, None]"), ("numbers[0] * x,", "numbers[0] * x[:, 0],")
    ),
    fault(
        "lines",
        "shapes",
        "finite float64 y",
        ("numbers[0] * x,", "numbers[0] / (x - x),"),
        ("import numpy as np\n", "import numpy as np\nnp.seterr(all='ignore')\n"),
    ),
    fault(
        "lines",
        "pure",
        ("generator of NumPy", "draw from `stream`"),
        ("numbers[0] * x,", "np.random.rand() * x,"),
    ),
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


def test_a_space_may_use_a_part_of_another_file(tmp_path: Path):
    line = ("    steps=10,", '    fixed={"data.dataset": "lines"},\n    steps=10,')
    space, lines = written(tmp_path, "rates", line), written(tmp_path, "lines")
    alone = metadist.check(space)
    assert [f.check for f in alone.of("error")] == ["base"], seen(alone)
    assert "--plugin FILE" in str(alone)
    assert metadist.check(space, plugins=[lines]).ok
    got = CliRunner().invoke(main, ["check", str(space), "--plugin", str(lines)])
    assert got.exit_code == 0, got.output


def test_the_dataset_of_the_page_keeps_its_contract(tmp_path: Path):
    text = files("docs/add-a-dataset.md")["gratings.py"]
    (tmp_path / "gratings.py").write_text(text, encoding="utf-8")
    report = metadist.check(tmp_path / "gratings.py")
    assert not report.findings, seen(report)


@pytest.mark.parametrize("planted", DATA, ids=str)
def test_a_planted_fault_is_found(tmp_path: Path, planted: Fault):
    check_found(tmp_path, planted)
