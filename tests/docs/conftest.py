"""What the pages stand on: a small dataset, small runs, and a directory for each page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from metadist.evaluation import run_evaluator
from metadist.executors.world_size import IN_PROCESS

#: What makes the runs of the pages small; the last of two equal keys counts.
QUICK = ("outer.steps=2", "outer.batch=2", "eval.every=2", "eval.episodes=6", "eval.val_episodes=2")
#: Data that nobody has here are replaced by the small one.
_FOREIGN = ("omniglot", "miniimagenet")


def small(request: RunRequest) -> RunRequest:
    """A run as it was asked for, but small and in this process."""
    sets: tuple[str, ...] = QUICK
    images = str(request.recipe).startswith(("strokes-5w", *_FOREIGN))
    if images and not any(s.startswith("model.name") for s in request.overrides):
        sets += ("model.filters=4", "eval.extra_queries=0")
    if str(request.recipe).startswith(_FOREIGN):
        sets += ("data.dataset=strokes", "data.split=default", "data.rotations=none")
    return replace(request, overrides=(*request.overrides, *sets), workers=IN_PROCESS)


@contextmanager
def small_runs(*, offline: bool) -> Iterator[None]:
    """Inside the block runs are small, in this process; a page of a report is not drawn."""
    train = driver.train

    def quick(request: RunRequest, *rest: Any) -> Any:
        return train(replace(small(request), offline=offline or request.offline), *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "train", quick)
        if offline:
            patch.setattr(ending, "write_report", lambda run: run.path / "report.html")
            patch.setattr(run_evaluator, "diagnose", lambda *given, **more: None)
        yield


@pytest.fixture(scope="session")
def shelf_of_pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes, once, what pages take for granted: ``data``, or a run as ``NAME=RECIPE K=V``."""
    root = tmp_path_factory.mktemp("pages")

    @cache
    def made(what: str) -> Path:
        places: dict[str, Any] = {"runs_dir": root / "runs", "data_dir": root / "data"}
        if what != "data":
            made("data")
            name, recipe, *sets = re.split("[= ]", what, maxsplit=2)
            with small_runs(offline=True):
                metadist.train(recipe, name=name, overrides=sets, **places)
            return places["runs_dir"] / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(strokes, "ALPHABETS", (("train", 2), ("val", 1), ("test", 1)))
            patch.setattr(strokes, "CHARACTERS", 20)
            strokes._characters.cache_clear()
            metadist.prepare("strokes", data_dir=places["data_dir"])
            strokes._characters.cache_clear()
        return places["data_dir"]

    return made


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf_of_pages: Callable[[str], Path]
) -> Iterator[Callable[..., Path]]:
    """Makes the current directory one with data and runs of these names; there, runs are small.

    With ``slow`` the data are the whole dataset, and MLflow knows the runs.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with ExitStack() as stack:

        def made(*runs: str, slow: bool = False) -> Path:
            stack.enter_context(small_runs(offline=not slow))
            if slow:
                metadist.prepare("strokes")
            else:
                shutil.copytree(shelf_of_pages("data"), "data")
            for run in runs:
                name, recipe, *sets = re.split("[= ]", run, maxsplit=2)
                if slow:
                    metadist.train(recipe, name=name, overrides=sets)
                else:
                    shutil.copytree(shelf_of_pages(run), Path("runs", name))
            return tmp_path

        yield made
