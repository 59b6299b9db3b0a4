"""From which folders this process and the Pythons that it starts import."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import metadist
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.types import EpisodeSpec
from data_pipeline.shards.writer import write_shards
from metadist.process import code
from metadist.process.imports import PACKAGES, copies, environment, import_path, shadowed

HOME = str(Path(metadist.__file__).resolve().parent.parent)
#: Names that whatever is started imports.
HIDING = ("logging", "numbers", "pickle", "random", "signal", "socket", "statistics", "tempfile")


@pytest.fixture(autouse=True)
def _all_are_imported() -> None:
    for name in PACKAGES:
        import_module(name)


@pytest.fixture
def hiding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: it holds a copy of metadist, and files called like modules."""
    folder = tmp_path / "hiding"
    (folder / "metadist").mkdir(parents=True)
    (folder / "metadist/__init__.py").write_text("raise SystemExit('the copy')")
    for name in HIDING:
        (folder / f"{name}.py").write_text(f"raise SystemExit('the user\\'s {name}')")
    monkeypatch.chdir(folder)
    return folder


def test_what_a_folder_hides(hiding, tmp_path):
    assert shadowed(hiding) == sorted(HIDING)
    assert copies(hiding) == ["metadist"]
    assert copies(HOME) == shadowed(tmp_path / "none") == []


def test_the_path_is_that_of_this_process(tmp_path, monkeypatch):
    given = [str(tmp_path), *sys.path]
    monkeypatch.setattr(sys, "path", given)
    path = import_path()
    rest = [p for p in map(os.path.abspath, dict.fromkeys(given)) if p in path[2:]]
    assert path[2:] == rest
    assert path[0] == os.path.dirname(os.__file__)
    assert str(tmp_path) in path


def test_another_copy_comes_last_and_the_standard_library_first(hiding, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    path = import_path()
    assert path[-1] == str(hiding)
    assert path[0] == os.path.dirname(os.__file__)
    # What was imported and is on the path no more is found nevertheless.
    monkeypatch.setattr(sys, "path", [p for p in sys.path if os.path.realpath(p or ".") != HOME])
    assert import_path()[-2:] == [HOME, str(hiding)]


@pytest.mark.parametrize(
    "how", [["-m", "metadist"], ["-c", "import metadist.cli.main as m; m.main()"]]
)
def test_a_python_that_is_started_imports_the_same(hiding, how):
    def version(**variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *how, "--version"]
        return subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True
        )

    assert "the copy" in version(PYTHONPATH="", PYTHONSAFEPATH="").stderr
    done = version(**environment())
    assert done.returncode == 0, done.stderr
    assert metadist.__version__ in done.stdout


@pytest.mark.slow
def test_writers_of_shards_import_no_file_of_the_users(hiding, tmp_path):
    source = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 5, 5), 0)
    write_shards(source, 128, tmp_path / "shards", episodes_per_shard=64, writers=2)


def test_digests_name_every_file_that_differs(tmp_path, monkeypatch):
    (tmp_path / "lab_of_one").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "lab_of_one/__init__.py"
    file.write_text("A = 1\n")
    before = code.digests(["lab_of_one"])
    assert set(before) == {"lab_of_one/__init__.py"}
    assert code.differences(before, ["lab_of_one"]) == ""
    file.write_text("A = 2\n")
    (tmp_path / "lab_of_one/more").mkdir()
    (tmp_path / "lab_of_one/more/new.py").write_text("")
    told = code.differences(before, ["lab_of_one"])
    assert told == f"lab_of_one/__init__.py, lab_of_one/more/new.py (imported from {file.parent})"
    assert "nowhere" in code.differences(before, ["lab_of_nobody"])


def test_the_code_of_this_process_is_what_it_was_when_it_began():
    assert code.own(PACKAGES) == code.digests(PACKAGES)
    assert "metadist/backbones/_norm.py" in code.own()
    assert not any(name.startswith("tune_spaces/") for name in code.own())
