"""The page of all keys is complete, by the program that it prints itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metadist.recipe.schema import Recipe

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")


def program() -> str:
    found = re.search(r"^```python$(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def test_every_key_and_choice_is_on_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    exec(compile(program(), "docs/recipes.md", "exec"), {})
    printed = capsys.readouterr().out
    assert all(f"{name}." in printed for name in Recipe.model_fields)


def test_a_missing_row_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "docs").mkdir()
    rows = [line for line in TEXT.splitlines() if not line.startswith("| `algorithm.epsilon`")]
    (tmp_path / "docs" / "recipes.md").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StopIteration):
        exec(compile(program(), "docs/recipes.md", "exec"), {})


def test_no_row_is_of_a_key_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    exec(compile(program(), "docs/recipes.md", "exec"), {})
    known = set(re.findall(r"^(\w+\.\w+) ", capsys.readouterr().out, re.MULTILINE))
    assert set(re.findall(r"^\| `(\w+\.\w+)` \|", TEXT, re.MULTILINE)) <= known
