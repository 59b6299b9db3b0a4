"""``metadist check``: right parts pass, and each planted fault is found by its check's words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checked_parts import PARTS
from click.testing import CliRunner, Result
from PIL import Image
from planted import seen, written

import metadist
from data_pipeline import registry
from metadist import plugins
from metadist.cli.main import main
from metadist.contracts import KINDS
from metadist.contracts.finding import Finding, Inspection, found
from metadist.errors import PluginError, RecipeError


@pytest.mark.parametrize("name", PARTS)
def test_a_right_part_passes(tmp_path: Path, name: str):
    report = metadist.check(written(tmp_path, name))
    assert report.ok, seen(report)
    assert not report.of("warning"), seen(report)
    assert report.passed == report.checks
    assert report.name == name


def test_every_kind_of_part_is_covered():
    kinds = {
        line.split('"')[1]
        for text in PARTS.values()
        for line in text.splitlines()
        if line.startswith("PART = ")
    }
    assert kinds == set(KINDS) == set(registry.EXPORTS)


KINDS_HERE = [
    pytest.param(
        kind,
        marks=[pytest.mark.slow, pytest.mark.long]
        if kind in ("algorithm", "backbone", "dataset")
        else [],
    )
    for kind in KINDS
]


@pytest.mark.parametrize("kind", KINDS_HERE)
def test_every_part_of_this_package_keeps_its_contract(kind: str):
    for name in registry.builtin_names(plugins.package(kind)):
        report = metadist.check(f"{kind}.{name}")
        assert report.ok, seen(report)


def test_different_faults_with_one_mend_are_all_told_and_numbers_do_not_count():
    inspection = Inspection()

    def check(level: Any) -> Iterator[Finding]:
        yield found(f"a loss of {1.5 if level == 'error' else 2e-7}", "3", "mind the sign", level)
        yield found("a gradient", "none", "mind the sign", level)

    for level, on in (("warning", "a"), ("error", "b"), ("error", "c")):
        inspection.run([check], level, on)
    report = inspection.report("objective", "own")
    assert not report.ok
    assert [(f.demanded[:6], f.on) for f in report.of("error")] == [
        ("a loss", ("b", "c")),
        ("a grad", ("b", "c")),
    ]
    assert [f.on for f in report.of("warning")] == [("a",), ("a",)]
    one = Inspection()
    for number in (1.5, -2e-7, 12):
        one.add(found(f"a loss of {number}", number, "mind the sign"))
    assert len(one.findings) == 1


def test_a_name_is_a_part_and_so_is_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    written(tmp_path, "lines")
    assert metadist.check("lines").kind == "function"
    assert metadist.check("sinusoid").name == "sinusoid"
    assert metadist.check("tune_space.maml-lr").name == "maml_lr"
    with pytest.raises(PluginError, match="metadist check NAME"):
        metadist.check("nobody")


@pytest.mark.slow
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
    assert str(report).splitlines()[-1] == "algorithm prototypes: 4 checks, 1 error, no warnings"
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


@pytest.mark.slow
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
