"""The table of planted faults fits the tree: each applies, and the tests that see it are there."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from promises import ROOT, Promise, promises, verdict

EVERY = promises()


def named(promise: Promise) -> list[tuple[str, str]]:
    """File, or folder, and function of each test that is named."""
    return [(name.partition("::")[0], name.partition("::")[2]) for name in promise.caught_by]


@pytest.mark.parametrize("promise", EVERY, ids=lambda promise: promise.name)
def test_the_fault_can_be_planted_and_its_tests_are_there(promise: Promise) -> None:
    ast.parse(promise.planted((ROOT / promise.file).read_text(encoding="utf-8")))
    for file, function in named(promise):
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        tree = ast.parse(text)
        functions = {f.name: f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)}
        assert function in functions, f"{file} has no {function or 'test that is named'}"
        marked = [ast.unparse(mark) for mark in functions[function].decorator_list]
        marked += [ast.unparse(n) for n in tree.body if "pytestmark =" in ast.unparse(n)]
        assert any("mark.slow" in mark for mark in marked) == promise.slow


def test_there_is_a_fault_for_each_of_many_promises() -> None:
    assert len({promise.says for promise in EVERY}) == len(EVERY) >= 20


def test_what_pytest_says_is_told_apart() -> None:
    def done(status: int, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([sys.executable], status, text, "")

    failed = "E       assert 1 == 2\nFAILED tests/unit/test_keys.py::test_a - assert\n"
    assert verdict(done(0, "1 passed")) == "passed"
    assert verdict(done(1, failed)) == "caught by unit/test_keys.py::test_a"
    broken = failed.replace("assert 1 == 2", "ImportError: no such name")
    for status, text in ((1, broken), (4, failed), (5, ""), (1, "")):
        assert verdict(done(status, text)).startswith(f"pytest ended with {status}")
