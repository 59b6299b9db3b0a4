"""What computes is what is recorded: Ray workers have the driver's code, or refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin_files import module_net, write
from small_runs import SMALL

import metadist
from metadist.api import TrainResult
from metadist.errors import NumericsError
from metadist.process.code import code_digest

pytestmark = [pytest.mark.distributed, pytest.mark.slow]
RECIPE = "sinusoid-10shot-maml"
#: Trains on a Ray that was started before, in the current directory.
ON_ANOTHER_RAY = f"""
import sys, ray, metadist
ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
metadist.train({RECIPE!r}, name="other", workers=2, overrides=sys.argv[1:], offline=True)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with another copy of the packages, whose loss is another."""
    folder = tmp_path / "copy"
    home = Path(metadist.__file__).parent.parent
    for package in ("metadist", "data_pipeline"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(home / package, folder / package, ignore=ignored)
    loss = folder / "metadist/objectives/regression.py"
    text = loss.read_text().replace("mse_loss(prediction.mean", "mse_loss(1.5 * prediction.mean")
    assert "1.5 *" in text
    loss.write_text(text)
    return folder


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python as an installed command begins it, which does not import from the folder."""
    command = [sys.executable, "-P", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)


@pytest.mark.long
def test_a_folder_with_another_copy_changes_nothing(copy: Path) -> None:
    for name in ("logging", "numbers", "random", "signal", "statistics"):
        (copy / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    settings = [word for setting in SMALL for word in ("--set", setting)]
    digests = set()
    for workers in (0, 2):
        words = ["train", RECIPE, "--name", f"w{workers}", "--workers", str(workers), *settings]
        done = python(copy, "-m", "metadist", *words, "--offline", "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        digests.add(json.loads(done.stdout.splitlines()[-1])["params_sha256"])
        attempt: dict[str, Any] = json.loads(
            (copy / f"runs/w{workers}/attempts/0001.json").read_text()
        )
        assert (attempt["code"], attempt["bits"]) == (code_digest(), "verified")
    assert len(digests) == 1


def test_workers_with_another_copy_are_refused_by_name(copy: Path) -> None:
    done = python(copy, "-c", ON_ANOTHER_RAY, *SMALL)
    error = done.stderr.splitlines()[-1]
    assert "RunError: a worker on" in error, done.stderr[-3000:]
    assert f"metadist/objectives/regression.py (imported from {copy / 'metadist'}" in error
    assert not list(copy.glob("runs/other/attempts/*.json"))


@pytest.mark.long
def test_workers_that_are_built_otherwise_are_refused(private_ray: None, tmp_path: Path) -> None:
    """A module that is made with the key gives the same bits, a constant of a process does not."""

    def train(workers: int, source: str) -> TrainResult:
        return metadist.train(
            RECIPE,
            workers=workers,
            overrides=[*SMALL, "model.name=net"],
            plugins=[write(tmp_path / "net.py", source)],
            runs_dir=tmp_path / "runs",
            data_dir=tmp_path / "data",
            offline=True,
        )

    digests = {train(workers, module_net())["params_sha256"] for workers in (0, 2)}
    assert len(digests) == 1
    with pytest.raises(NumericsError, match=r"after 0 steps: workers \[1\] of 2 .*predictions"):
        train(2, module_net(constant="float(os.getpid())", added="self.constant"))
