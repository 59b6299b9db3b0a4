"""docs/python.md: its programs run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import metadist

TEXT = (Path(__file__).parents[3] / "docs" / "python.md").read_text(encoding="utf-8")
QUICK = [
    "outer.steps=2",
    "outer.batch=2",
    "eval.every=2",
    "eval.episodes=2",
    "eval.val_episodes=2",
    "eval.extra_queries=0",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, strokes_data: Path) -> Path:
    """The runs that the page names, made in a hurry."""
    root = tmp_path_factory.mktemp("place")
    (root / "data").symlink_to(strokes_data)
    places: dict[str, Any] = {"runs_dir": root / "runs", "data_dir": root / "data"}
    for recipe, name, more in (
        ("strokes-5w1s-maml", "first", ["model.filters=8"]),
        ("sinusoid-10shot-maml", "waves", []),
    ):
        command = f"metadist train {recipe} --name {name}"
        assert command in " ".join(TEXT.split())
        metadist.train(recipe, name=name, overrides=[*QUICK, *more], offline=True, **places)
    return root


def program(heading: str) -> str:
    """The first program below a heading."""
    found = re.search(
        rf"^# +{heading}.*?^```python$(.*?)^```$", TEXT.replace("##", "#"), re.S | re.M
    )
    assert found
    return found[1]


def run(text: str, **given: Any) -> dict[str, Any]:
    names = {"__name__": "__main__", **given}
    exec(compile(text, "docs/python.md", "exec"), names)
    return names


def without_figures(line: str) -> list[str]:
    return re.sub(r"step \d+|^\d+ of", "", line).split()


def test_the_programs_run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shapes = run(program("A complete program"))
    lines = capsys.readouterr().out.splitlines()
    printed = re.search(r"^It prints\n\n```text\n(.*?)^```$", TEXT, re.S | re.M)
    assert printed
    # All but figures is what the page says.
    said = printed[1].splitlines()
    assert len(lines) == len(said)
    for mine, its in zip(lines, said, strict=True):
        if "%" in its:
            assert mine.split()[0] == its.split()[0]
        else:
            assert without_figures(mine) == without_figures(its)
    assert set(shapes["found"].labels) <= set(shapes["SHAPES"])
    images = [shapes["drawing"](shape) for shape in shapes["SHAPES"]]
    first = run(
        program("In Python"),
        metadist=metadist,
        images=images,
        labels=shapes["SHAPES"],
        others=images,
    )
    assert len(first["found"].probabilities) == 5
    waves = run(program("Functions"))
    assert waves["found"].mean.shape == (11, 1)


def test_every_attribute_in_the_tables_is_there(place, monkeypatch):
    monkeypatch.chdir(place)
    shapes = run(program("A complete program"))
    for name, attribute in re.findall(r"`(found|fitted|model)\.(\w+)", TEXT):
        if attribute not in ("mean", "scale"):
            assert hasattr(shapes[name], attribute), attribute
