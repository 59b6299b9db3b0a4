"""Ray workers import a plugin themselves and give the same bits as one process."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from pages import blocks, files
from plugin_files import BACKBONE, SIGN_MAML, write
from small_runs import SMALL

import metadist
from metadist.cli.main import main
from metadist.errors import PluginError
from metadist.executors import ray_train
from metadist.executors.job import Job
from metadist.executors.world_size import WorldSize
from metadist.plugins import Plugin
from metadist.recipe.files import recipe_text

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


#: A factory of modules, as it stands in a program.
FACTORY = """
from torch import nn


def make_net(inputs, outputs, *, width: int = 8):
    return nn.Sequential(nn.Flatten(), nn.Linear(1, width), nn.Tanh(), nn.Linear(width, outputs))
"""


@pytest.mark.long
def test_workers_do_not_matter_to_a_module(
    private_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write(Path("ray_module.py"), FACTORY)
    make_net = importlib.import_module("ray_module").make_net

    digests = {
        metadist.train(
            "sinusoid-10shot-maml",
            name=f"workers{workers}",
            workers=workers,
            overrides=[*SMALL, "model.width=6"],
            backbone=make_net,
            offline=True,
        )["params_sha256"]
        for workers in (0, 2)
    }
    assert len(digests) == 1


#: An MLP that opens a file by a relative path, and one beside itself.
READS = '''
from pathlib import Path


def build(options, shape):
    """The network."""
    beside = Path(__file__).parent / "beside.txt"
    assert Path("typed.txt").read_text() == beside.read_text()
    return mlp.build(options, shape)
'''


@pytest.fixture
def reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A current directory that Ray was not started in, and options that name a plugin in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    write(Path("parts/reads.py"), BACKBONE.replace("build = mlp.build", READS))
    write(Path("parts/beside.txt"), "1")
    write(Path("typed.txt"), "1")
    return ["--plugin=./parts/reads.py", "--set=model.name=reads", "--set=model.norm=none"]


def test_a_plugin_finds_its_files_on_workers(private_ray: None, reading: list[str]) -> None:
    settings = [f"--set={setting}" for setting in SMALL]
    words = ["train", "sinusoid-10shot-maml", "--offline", "--workers=2", *settings, *reading]
    main([*words, "--name=here"], standalone_mode=False)
    assert json.loads(Path("runs/here/run.json").read_text())["status"] == "finished"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_page_on_searches_says_how_to_name_a_space(
    private_ray: None, reading: list[str], strokes_data: Path
) -> None:
    page = "docs/searching.md"
    (command,) = (c for b in blocks(page) for c in b.commands if "my_space.py" in c.line)
    space = files(page)["my_space.py"]
    write(Path("mine.toml"), recipe_text("strokes-5w1s-maml"))
    write(Path("my_space.py"), space.replace("omniglot-5w1s-maml", "mine.toml"))
    small = ["--steps=4", "--every=2", "--trials=2", "--seeds=1", "--episodes=4", "--no-default"]
    small += ["--set=outer.batch=2", "--set=eval.val_episodes=2", "--set=eval.episodes=2"]
    small += ["--set=inner.loss=mean", "--set=eval.steps=5", f"--data-dir={strokes_data}"]
    words = [*command.words[1:], *reading, *small, "--searcher=random", "--name=s", "--offline"]
    main(words, standalone_mode=False)
    search = json.loads(Path("runs/searches/s/search.json").read_text())
    assert search["status"] == "finished"
    assert search["result"]["best"][0]["test"]["mean"] is not None


def test_a_worker_with_another_source_ends_the_run(private_ray: None, tmp_path: Path) -> None:
    path = write(tmp_path / "ray_other.py", SIGN_MAML)
    plugin = Plugin("algorithm", "ray_other", str(path), "0" * 64)
    (tmp_path / "run").mkdir()
    with pytest.raises(PluginError, match="every worker must see the same file"):
        ray_train.execute(
            Job(tmp_path / "run", tmp_path, WorldSize(2, 2), plugins=(plugin,)), lambda line: None
        )
