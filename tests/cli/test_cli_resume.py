"""``metadist train --resume RUN`` without a recipe: the run has its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from plugin_files import SIGN_MAML, write
from small_runs import SMALL
from submitted import as_written

import metadist
from metadist.cli.main import main
from metadist.errors import JobError, RecipeError
from metadist.jobs.command import plan
from metadist.jobs.package import pack

SETTINGS = [f"--set={setting}" for setting in SMALL]
NEW = ["train", "sinusoid-10shot-maml", "--offline", *SETTINGS]
ON = ["train", "--offline"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="metadist")


def done(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def test_a_run_goes_on_by_its_own_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = done(*NEW, "--name=whole", "--set=inner.lr=0.02")
    short = done(*NEW, "--name=short", "--set=inner.lr=0.02", "--set=outer.steps=3")
    page = (Path(__file__).parents[2] / "docs/determinism-and-resume.md").read_text("utf-8")
    command = re.search(r"`metadist (train --resume NAME)`", page)
    assert command
    words = command[1].replace("NAME", "short").split()
    assert done(*words, "--offline") == short  # finished already
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    result = done(*ON, "--resume=../runs/short", "--set=outer.steps=6")
    assert result["params_sha256"] == whole["params_sha256"]
    assert not os.listdir()
    monkeypatch.chdir(tmp_path)
    assert done(*ON, "--resume=auto", "--name=short") == result
    assert metadist.train(resume="short", offline=True) == result
    assert "inner.lr: 0.02 -> 0.1" in run(*ON, "--resume=short", "--set=inner.lr=0.1").stderr


def test_without_a_run_there_is_no_recipe() -> None:
    for words, said in (
        (["train"], "RECIPE is needed"),
        ([*ON, "--resume=auto"], "a recipe is needed"),
        ([*ON, "--resume=auto", "--name=new"], "a recipe is needed"),
        ([*ON, "--resume=gone"], "no run 'gone'"),
    ):
        result = run(*words)
        assert result.exit_code in (1, 2)
        assert said in result.stderr
    with pytest.raises(RecipeError, match="--resume RUN"):
        metadist.train(name="new")
    assert not Path("runs/new").exists()


def test_a_plugin_is_named_again() -> None:
    write(Path("sign.py"), SIGN_MAML)
    sign = ["--set=algorithm.name=sign", "--plugin=sign.py"]
    done(*NEW, *sign, "--name=a", "--set=outer.steps=3")
    assert "give --plugin" in run(*ON, "--resume=a").stderr
    further = done(*ON, "--resume=a", "--plugin=sign.py", "--set=outer.steps=6")
    assert further["steps"] == 6


def test_a_run_in_an_object_store_too(shelf: str, tmp_path: Path) -> None:
    places = [f"--runs-dir={shelf}/runs", f"--data-dir={shelf}/data"]
    result = done(*NEW, *places, "--name=a")
    shutil.rmtree(tmp_path / "cache")
    assert done(*ON, *places, "--resume=a") == result
    assert done(*ON, *places, f"--resume={shelf}/runs/a") == result


def test_a_job_too(tmp_path: Path) -> None:
    line = "train --resume a --workers 2 --runs-dir /all/runs"
    planned = plan(as_written(line), "now")
    assert planned.run == "a"
    assert planned.command.argv == [*shlex.split(line), "--address", "auto"]
    parcel = pack(planned.command, tmp_path, code=None, facts={}, here=tmp_path, secrets={})
    assert parcel.command == planned.command
    with pytest.raises(JobError, match="RECIPE or --name says which run"):
        plan(as_written("train --resume auto --runs-dir /all/runs"), "now")
