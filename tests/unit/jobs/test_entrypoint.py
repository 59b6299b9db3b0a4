"""The script that a job starts with: a cluster that does not fit is named before anything runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metadist.jobs import entrypoint

THERE = {"python": "3.11", "ray": "2.60.0", "metadist": "0.1.0"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"ray": "2.60.3"}, []),
        ({"python": "3.12"}, ["Python is 3.12 here and 3.11 where it was submitted"]),
        ({"ray": "2.61.0"}, ["Ray is 2.61.0 here and 2.60.0 where it was submitted"]),
        ({"metadist": "0.1.1"}, ["metadist is 0.1.1 here and 0.1.0 where it was submitted"]),
        ({"ray": "", "metadist": ""}, ["there is no Ray here", "there is no metadist here"]),
    ],
)
def test_what_does_not_fit(changed: dict[str, str], words: list[str]) -> None:
    assert entrypoint.misfits(THERE, {**THERE, **changed}) == words


def _started(
    directory: Path, python: str, *, any_version: bool, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the script as a job would; ``metadist`` is one that says what it was given."""
    shutil.copyfile(entrypoint.__file__, directory / "metadist_job.py")
    facts: dict[str, Any] = {"versions": {**entrypoint.found(), "python": python}}
    facts |= {"any_version": any_version, "data_dir": "/all/data", **more}
    (directory / "job.json").write_text(json.dumps(facts))
    (directory / "metadist.py").write_text(
        "import os, sys\nprint(sys.argv, os.environ['METADIST_DATA_DIR'])\nsys.exit(5)\n"
    )
    unset = ("METADIST_DATA_DIR", "MLFLOW_TRACKING_URI")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    # Also where Python does not look beside the script by itself.
    paths = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return subprocess.run(
        [sys.executable, "metadist_job.py", "train", "x"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_fits_becomes_metadist(tmp_path: Path) -> None:
    done = _started(tmp_path, entrypoint.found()["python"], any_version=False)
    assert done.stdout.strip() == "['metadist', 'train', 'x'] /all/data"
    assert done.returncode == 5
    assert done.stderr == ""


def test_another_python_ends_the_job_or_is_warned_of(tmp_path: Path) -> None:
    done = _started(tmp_path, "3.9", any_version=False)
    assert done.returncode == entrypoint.MISFIT
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: this job does not fit")
    assert "and 3.9 where it was submitted; use the same versions, or" in line
    done = _started(tmp_path, "3.9", any_version=True)
    assert done.returncode == 5
    assert done.stderr.startswith("Warning: ")


def test_a_job_whose_tracking_would_be_lost_does_not_start(tmp_path: Path) -> None:
    python = entrypoint.found()["python"]
    done = _started(tmp_path, python, any_version=False, needs_tracking="name a store")
    assert done.returncode == entrypoint.MISFIT
    assert done.stderr == "Error: name a store\n"
    done = _started(tmp_path, python, any_version=False, needs_tracking="")
    assert done.returncode == 5
