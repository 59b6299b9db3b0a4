"""What the pages stand on: a small dataset, small runs, and a directory for each page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import metadist
from data_pipeline.datasets import strokes
from metadist.driver import ending
from metadist.driver import run as driver
from metadist.driver.request import RunRequest
from metadist.executors.world_size import IN_PROCESS

#: What makes the runs of the pages small; the last of two equal keys counts.
QUICK = ("outer.steps=2", "outer.batch=2", "eval.every=2", "eval.episodes=12", "eval.val_episodes=2")
#: Data that nobody has here are replaced by the small one.
_FOREIGN = ("omniglot", "miniimagenet")


def small(request: RunRequest) -> RunRequest:
    """A run as it was asked for, but small, in this process and without MLflow."""
    sets = QUICK
    if str(request.recipe).startswith(_FOREIGN):
        sets += ("data.dataset=strokes", "data.split=default", "data.rotations=none")
    return replace(
        request,
        overrides=(*request.overrides, *sets),
        workers=IN_PROCESS,
        offline=True,
    )


@pytest.fixture(scope="session")
def shelf_of_pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes, once, what pages take for granted: ``data``, or a run of a recipe as ``RUN=RECIPE``."""
    root = tmp_path_factory.mktemp("pages")

    @cache
    def made(what: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            if what == "data":
                patch.setattr(strokes, "ALPHABETS", (("train", 2), ("val", 1), ("test", 1)))
                patch.setattr(strokes, "CHARACTERS", 20)
                strokes._characters.cache_clear()
                metadist.prepare("strokes", data_dir=root / "data")
                strokes._characters.cache_clear()
                return root / "data"
            name, recipe, *sets = re.split("[= ]", what, maxsplit=2)
            train = driver.train
            patch.setattr(driver, "train", lambda request, *rest: train(small(request), *rest))
            patch.setattr(ending, "write_report", lambda run: run.path / "report.html")
            made("data")
            places = {"runs_dir": root / "runs", "data_dir": root / "data"}
            metadist.train(recipe, name=name, overrides=sets, **places)
            return root / "runs" / name

    return made


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf_of_pages: Callable[[str], Path]
) -> Callable[..., Path]:
    """Makes the current directory one with the small dataset and these runs; there, runs are small."""
    train = driver.train

    def made(*runs: str) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        shutil.copytree(shelf_of_pages("data"), "data")
        for run in runs:
            shutil.copytree(shelf_of_pages(run), Path("runs", run.partition("=")[0]))
        monkeypatch.setattr(driver, "train", lambda request, *rest: train(small(request), *rest))
        monkeypatch.setattr(ending, "write_report", lambda run: run.path / "report.html")
        return tmp_path

    return made
