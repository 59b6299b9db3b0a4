"""``metadist.adapt``: from folders of images to labels in files, or why a run cannot do it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from fresh_learners import fresh_model
from own_images import export, save
from plugin_files import SIGN_MAML

import metadist
from metadist.api import AdaptResult
from metadist.errors import AdaptError, RunError
from metadist.recipe.schema import parse_recipe
from metadist.runs.listing import create_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image data, and the runs ``maml``, ``pixels`` and, on functions, ``lines``."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    short = ("eval.episodes=2", "eval.val_episodes=2", "eval.extra_queries=0")
    ended_run(root, "maml", IMAGES, *short, "eval.steps=3")
    ended_run(root, "pixels", IMAGES, *short, "algorithm.name=nearest_pixels", "eval.steps=0")
    ended_run(root, "lines", FUNCTIONS)
    return root


def adapt(place: Path, run: str, support: Path, query: Path, **more: Any) -> AdaptResult:
    places = {"runs_dir": place / "runs", "data_dir": place / "data"}
    return metadist.adapt(run, support=support, query=query, **(places | more))


@pytest.fixture
def folders(place: Path, tmp_path: Path) -> tuple[Path, Path]:
    _, source = fresh_model(IMAGES, root=place / "data")
    return export(source.episodes([1]), tmp_path / "mine")


def test_files(place, tmp_path, folders):
    support, query = folders
    result = adapt(place, "maml", support, query, out=tmp_path / "out")
    assert result["directory"] == str(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "adaptation.json",
        "predictions.csv",
        "predictions.svg",
    ]
    record = json.loads((tmp_path / "out" / "adaptation.json").read_text())
    assert record == {k: v for k, v in result.items() if k != "directory"}
    assert record["labels"] == {"way0": 2, "way1": 2, "way2": 2}
    assert record["checkpoint"]["step"] == 2
    assert "accuracy" not in record
    with (tmp_path / "out" / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file"] for row in rows] == sorted(p.name for p in query.iterdir())
    for row in rows:
        ways = {name: float(row[f"p({name})"]) for name in record["labels"]}
        assert row["label"] == max(ways, key=lambda name: ways[name])
        assert sum(ways.values()) == pytest.approx(1.0)
    svg = (tmp_path / "out" / "predictions.svg").read_text()
    assert svg.count("<image ") == 6 + 6
    assert "all of them" in svg


def test_true_labels_are_counted(place, tmp_path, folders):
    support, _ = folders
    result = adapt(place, "pixels", support, support, out=tmp_path / "out")
    assert (result["right"], result["accuracy"], result["steps"]) == (6, 1.0, None)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["true_label"] for row in rows] == [row["label"] for row in rows]
    assert (tmp_path / "out" / "predictions.svg").read_text().count("✓") == 6


def test_the_picture_is_bounded_and_says_what_it_leaves_out(place, tmp_path):
    rng = np.random.default_rng(0)
    for way in range(25):
        for n in range(9 if way == 0 else 1):
            pixels = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
            save(tmp_path / "support" / f"<way & {way:02d}>" / f"{n}.png", pixels)
    for n in range(50):
        save(tmp_path / "query" / f"{n:02d}.png", pixels)
    adapt(place, "pixels", tmp_path / "support", tmp_path / "query", out=tmp_path / "out")
    svg = (tmp_path / "out" / "predictions.svg").read_text()
    assert svg.count("<image ") == 8 + 19 + 40
    assert "+ 1<" in svg
    assert "and 5 labels more" in svg
    assert "10 more stand in predictions.csv" in svg
    assert "&lt;way &amp; 00&gt;" in svg
    assert "<way" not in svg


def test_results_are_never_overwritten(place, tmp_path, folders, monkeypatch):
    support, query = folders
    monkeypatch.chdir(tmp_path)
    for name in ("maml-adapted", "maml-adapted-2"):
        assert adapt(place, "maml", support, query)["directory"] == str(tmp_path / name)
    with pytest.raises(AdaptError, match="exists already and is kept"):
        adapt(place, "maml", support, query, out="maml-adapted")
    (tmp_path / "empty").mkdir()
    adapt(place, "maml", support, query, out="empty")
    assert (tmp_path / "empty" / "predictions.csv").is_file()


def test_inverted_images_are_turned_back(place, tmp_path, folders):
    support, query = folders
    prepare = fresh_model(IMAGES, root=place / "data")[0].tasks.preparation
    assert prepare is not None
    for folder in (support, query):
        for path in folder.rglob("*.png"):
            pixels = prepare.pixels(path.read_bytes(), "it")
            save(tmp_path / "inverted" / path.relative_to(folder.parent), 255 - pixels)
    inverted = tmp_path / "inverted"
    adapt(place, "maml", support, query, out=tmp_path / "a")
    adapt(place, "maml", inverted / "support", inverted / "query", out=tmp_path / "b", invert=True)
    adapt(place, "maml", inverted / "support", inverted / "query", out=tmp_path / "c")
    a, b, c = ((tmp_path / name / "predictions.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_folder_of_queries_that_is_no_label(place, tmp_path, folders):
    support, _ = folders
    save(tmp_path / "asked" / "way9" / "1.png", np.zeros((16, 16, 1), dtype=np.uint8))
    with pytest.raises(AdaptError, match=r"'way9', which is no label.*way0, way1, way2"):
        adapt(place, "maml", support, tmp_path / "asked", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- runs that cannot -------------------------------------------------------------------------


def test_a_run_may_be_a_path(place, tmp_path, folders):
    support, query = folders
    path = str(place / "runs" / "maml")
    more = {"runs_dir": tmp_path / "none", "out": tmp_path / "out"}
    assert adapt(place, path, support, query, **more)["run"] == "maml"


def test_a_run_on_functions(place, tmp_path, folders):
    with pytest.raises(RunError, match=r"a run that classifies images is needed.*sinusoid"):
        adapt(place, "lines", *folders, out=tmp_path / "out")


@pytest.mark.parametrize("status", ["created", "running", "failed", "killed"])
def test_a_run_that_is_not_finished(tmp_path, folders, status):
    run = create_run(tmp_path / "runs", "half", parse_recipe(IMAGES), {})
    run.update(status=status)
    with pytest.raises(
        RunError, match=rf"finished run is needed, this one is '{status}'.*--resume"
    ):
        adapt(tmp_path, "half", *folders, out=tmp_path / "out")


def test_a_run_of_a_plugin_needs_the_plugin(place, tmp_path, folders):
    file = tmp_path / "sign_maml.py"
    file.write_text(SIGN_MAML)
    small = ("eval.episodes=2", "eval.val_episodes=2", "eval.extra_queries=0")
    places: Any = {"data_dir": place / "data", "runs_dir": tmp_path / "runs"}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(IMAGES.replace('"maml"', '"sign_maml"'))
    metadist.train(
        recipe,
        name="signed",
        overrides=small,
        **places,
        offline=True,
        plugins=[file],
    )
    more = {"out": tmp_path / "out", **places}
    with pytest.raises(RunError, match="give --plugin"):
        adapt(place, "signed", *folders, **more)
    assert adapt(place, "signed", *folders, **more, plugins=[file])["steps"] == 1
    with pytest.raises(RunError, match=r"code of .*sign_maml\.py, which a model cannot carry"):
        metadist.register("signed", **places, plugins=[file])
