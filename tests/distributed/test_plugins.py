"""Ray workers import a plugin themselves and give the same bits as one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from plugin_files import BACKBONE, SIGN_MAML, write
from small_runs import SMALL

import metadist
from metadist.errors import PluginError
from metadist.launch import train
from metadist.launch.job import Job
from metadist.launch.world import WorldSize
from metadist.plugins import Plugin

pytestmark = [pytest.mark.distributed, pytest.mark.slow]


def test_workers_do_not_matter_to_plugins(
    private_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray was started elsewhere: its workers do not find the module in a directory of theirs.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    write(Path("ray_lab/ray_sign.py"), SIGN_MAML)
    write(Path("ray_net.py"), BACKBONE)
    digests = {
        metadist.train(
            "sinusoid-10shot-maml",
            name=f"workers{workers}",
            workers=workers,
            overrides=[*SMALL, "algorithm.name=ray_sign", "model.name=ray_net"],
            plugins=["ray_lab.ray_sign", "./ray_net.py"],
            offline=True,
        )["params_sha256"]
        for workers in (0, 2)
    }
    assert len(digests) == 1


def test_a_worker_with_another_source_ends_the_run(private_ray: None, tmp_path: Path) -> None:
    path = write(tmp_path / "ray_other.py", SIGN_MAML)
    plugin = Plugin("algorithm", "ray_other", str(path), "0" * 64)
    (tmp_path / "run").mkdir()
    with pytest.raises(PluginError, match="every worker must see the same file"):
        train.fit(
            Job(tmp_path / "run", tmp_path, plugins=(plugin,)),
            WorldSize(2, 2),
            None,
            lambda line: None,
        )
