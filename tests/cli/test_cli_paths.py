"""Paths mean what they meant where they were typed: ``~`` is a home, nothing is called ``~``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from own_images import save
from plugin_files import SIGN_MAML, write
from small_runs import SMALL
from submitted import as_written

import metadist
from data_pipeline.errors import DataError
from data_pipeline.storage.object_uri import cache_directory
from data_pipeline.storage.typed_paths import typed_path
from metadist.api import data_directory, runs_directory
from metadist.cli.main import main
from metadist.jobs.command import plan
from metadist.recipe.files import recipe_text
from metadist.track import default_tracking_uri, whole_uri

SETTINGS = [word for setting in SMALL for word in ("--set", setting)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home beside the folder in which commands are typed."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path / "here")
    return folder


def done(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), prog_name="metadist")
    assert result.exit_code == 0, result.output
    assert not Path("~").exists()
    return result.output


@pytest.mark.slow
def test_places_of_a_run_may_begin_with_a_tilde(home: Path):
    write(home / "sign.py", SIGN_MAML)
    (home / "mine.toml").write_text(recipe_text("sinusoid-10shot-maml"))
    places = ["--runs-dir=~/runs", "--data-dir=~/data", "--plugin=~/sign.py"]
    sign = ["--set", "algorithm.name=sign", *SETTINGS, *places]
    store = "--tracking-uri=sqlite:///~/flow.db"
    done("train", "~/mine.toml", "--name", "a", *sign, store)
    done("train", "~/mine.toml", "--resume=~/runs/a", "--offline", *sign)
    recorded = json.loads((home / "runs/a/run.json").read_text())["mlflow"]["tracking_uri"]
    assert recorded == f"sqlite:///{home}/flow.db"
    assert (home / "flow.db").is_file()
    done("evaluate", "~/runs/a", *places)
    done("train", "~/mine.toml", "--name", "b", "--offline", *sign, "--set", "run.seed=1")
    out = "--out=~/together"
    done("evaluate", "a", "b", out, *places)
    assert (home / "together" / "ensemble.json").is_file()
    done("compare", "~/runs/a", "~/runs/b", "--html=~/page.html", "--csv=~/table.csv")
    assert (home / "page.html").is_file()
    assert (home / "table.csv").is_file()
    (home / "runs/a/report.html").unlink()
    done("report", "a", "--runs-dir=~/runs")
    assert (home / "runs/a/report.html").is_file()
    assert str(home / "runs") in done("doctor", "--runs-dir=~/runs")
    assert not list(Path.cwd().iterdir())


def test_places_of_data_may_begin_with_a_tilde(home: Path, monkeypatch: pytest.MonkeyPatch):
    for kind in range(12):
        for copy in range(2):
            pixels = np.full((16, 16, 1), 20 * kind + copy, dtype=np.uint8)
            save(home / f"photos/kind{kind:02d}/{copy}.png", pixels)
    monkeypatch.setenv("METADIST_DATA_DIR", "~/data")
    options = ["--name", "own", "--option", "size=1.6e1", "--option", "channels=01"]
    done("data", "prepare", "image_folder", "--source=~/photos", *options)
    assert str(home / "data") in done("data", "list")
    done("data", "verify", "~/data/own")
    done("data", "preview", "own", "--out=~/sheet.png")
    assert (home / "sheet.png").is_file()
    metadist.prepare("image_folder", source="~/photos", name="again", options={"size": 16})
    assert (home / "data" / "again").is_dir()
    assert not list(Path.cwd().iterdir())


def test_images_to_label_may_lie_at_home(home: Path, monkeypatch: pytest.MonkeyPatch):
    from metadist.api import adapting

    asked: list[Any] = []
    monkeypatch.setattr(adapting, "open_model", lambda *given: given)
    monkeypatch.setattr(adapting, "check_labels_images", lambda model: model)

    def adapt_run(*given: Any, **more: Any) -> dict[str, Any]:
        asked.extend(given)
        return {"run": "run", "directory": "out", "notes": []}

    monkeypatch.setattr(adapting, "adapt_run", adapt_run)
    metadist.adapt("run", support="~/s", query=Path("~/q"), runs_dir="~/runs")
    assert asked[1:3] == [home / "s", home / "q"]
    assert asked[0][0] == home / "runs"


def test_variables_and_addresses_may_too(home: Path, monkeypatch: pytest.MonkeyPatch):
    here = Path.cwd()
    for variable, find in (
        ("METADIST_DATA_DIR", data_directory),
        ("METADIST_CACHE_DIR", cache_directory),
    ):
        for typed, meant in (("~/x", home / "x"), ("x", here / "x"), ("~", home)):
            monkeypatch.setenv(variable, typed)
            assert find() == meant
    assert runs_directory(Path("~/runs")) == home / "runs"
    for typed, whole in (
        ("sqlite:///~/flow.db", f"sqlite:///{home}/flow.db"),
        ("sqlite:///flow.db?x=1", f"sqlite:///{here}/flow.db?x=1"),
        ("./mlruns", f"{here}/mlruns"),
        ("file:~/mlruns", f"file:{home}/mlruns"),
        ("databricks", "databricks"),
        ("http://host:5000", "http://host:5000"),
    ):
        assert whole_uri(typed) == whole
        monkeypatch.setenv("MLFLOW_TRACKING_URI", typed)
        assert default_tracking_uri(here) == whole


def test_a_job_is_told_the_home_of_whoever_submits(home: Path):
    line = "train '~/mine.toml' --runs-dir='~/runs' --plugin='~/toy.py' --workers 2"
    words = plan(as_written(line), "now").command.argv
    assert {f"{home}/mine.toml", f"{home}/runs", f"{home}/toy.py"} <= set(words)
    assert not [word for word in words if word.startswith("~")]


def test_a_home_that_nobody_has_is_refused(monkeypatch: pytest.MonkeyPatch):
    for typed in ("~nobody-at-all/x", "~nobody-at-all"):
        with pytest.raises(DataError, match=r"no home directory.*name the path in full"):
            typed_path(typed)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(DataError, match="no home directory"):
        data_directory("~/x")
    assert typed_path("./~x") == Path("~x")
