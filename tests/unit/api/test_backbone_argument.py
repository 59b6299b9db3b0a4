"""``train(backbone=...)`` and ``--plugin FILE:FACTORY``: a factory of modules as the network."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imported_files import forget
from plugin_files import write
from small_runs import SMALL
from torch import nn

import metadist
from metadist import backbones, plugins
from metadist.errors import PluginError, RunError
from metadist.recipe.schema import load_recipe
from metadist.tasks import TaskShape

NET = '''"""A network of torch's modules."""

from torch import nn


def make(inputs, outputs, *, width: int = 8):
    """Linear, tanh, linear."""
    return nn.Sequential(nn.Flatten(), nn.Linear(1, width), nn.Tanh(), nn.Linear(width, outputs))
'''
PART = """
import metadist

PART = "backbone"
Options, build = metadist.from_module(make)
"""
RECIPE = "sinusoid-10shot-maml"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    forget(tmp_path)


def imported(path: Path, name: str) -> Any:
    """A file as a module that a user's program has imported."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def train(name: str, *overrides: str, **more: Any) -> Any:
    recipe = more.pop("recipe", RECIPE)
    return metadist.train(recipe, name=name, overrides=[*SMALL, *overrides], offline=True, **more)[
        "params_sha256"
    ]


def info(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("runs", run, "run.json").read_text())
    return found


@pytest.mark.slow
def test_a_factory_and_a_plugin_of_it_are_the_same_network():
    path = write(Path("nets.py"), NET)
    net = write(Path("tanh_net.py"), NET + PART)
    module = imported(path, "nets")
    mine = train("mine", "model.width=6", backbone=module.make)
    chosen = ["model.name=tanh_net", "model.width=6"]
    assert train("file", *chosen, plugins=["tanh_net.py"]) == mine
    assert train("colon", "model.name=make", "model.width=6", plugins=["./nets.py:make"]) == mine
    assert train("other", "model.width=7", backbone=module.make) != mine
    recorded = info("mine")["plugins"]["backbone"]
    assert recorded["name"] == "make"
    assert recorded["path"] == f"{path.resolve()}:make"
    assert info("colon")["plugins"] == info("mine")["plugins"]
    assert info("file")["plugins"]["backbone"]["path"] == str(net.resolve())


@pytest.mark.slow
def test_a_factory_of_a_plugin_file_is_that_plugin():
    path = write(Path("tanh_net.py"), NET + PART)
    module = imported(path, "tanh_net")
    train("first", backbone=module.make)
    assert info("first")["plugins"]["backbone"]["name"] == "tanh_net"
    module.build = metadist.from_module(lambda inputs, outputs: nn.Linear(1, outputs)).build
    with pytest.raises(PluginError, match=r"tanh_net.py is a backbone of another factory"):
        train("second", backbone=module.make)


def test_a_factory_in_a_package_is_imported_by_its_name():
    write(Path("lab/__init__.py"), "")
    write(Path("lab/sizes.py"), "WIDTH = 5\n")
    write(Path("lab/nets.py"), NET + "\nfrom .sizes import WIDTH\n")
    sys.path.insert(0, str(Path.cwd()))
    module = importlib.import_module("lab.nets")
    train("first", backbone=module.make)
    assert info("first")["plugins"]["backbone"]["module"] == "lab.nets:make"


def test_a_recipe_object_is_given_the_network():
    module = imported(write(Path("nets.py"), NET), "nets")
    recipe = load_recipe(RECIPE, SMALL)
    metadist.train(recipe, backbone=module.make, name="first", offline=True)
    assert info("first")["plugins"]["backbone"]["name"] == "make"
    assert 'name = "make"' in Path("runs/first/recipe.toml").read_text()


def test_overrides_of_a_recipe_object_count():
    recipe = load_recipe(RECIPE, SMALL)
    metadist.train(recipe, overrides=["outer.lr=0.005"], name="first", offline=True)
    assert "lr = 0.005" in Path("runs/first/recipe.toml").read_text()


@pytest.mark.slow
def test_a_run_goes_on_with_the_source_of_its_factory_and_no_other():
    path = write(Path("nets.py"), NET)
    whole = train("whole", backbone=imported(path, "nets").make)
    train("cut", "outer.steps=3", backbone=imported(path, "nets").make)
    further: dict[str, Any] = {"resume": "cut", "recipe": "runs/cut/recipe.toml", "offline": True}
    again = metadist.train(overrides=["outer.steps=6"], plugins=[f"{path}:make"], **further)
    assert again["params_sha256"] == whole
    with pytest.raises(RunError, match=r"give --plugin .*nets.py:make again"):
        metadist.evaluate("cut")
    assert metadist.evaluate("cut", plugins=["nets.py:make"])["mse"] == again["mse"]
    write(path, NET.replace("Tanh", "ReLU"))
    with pytest.raises(RunError, match="the same bits need the same source"):
        metadist.train(overrides=["outer.steps=9"], plugins=[f"{path}:make"], **further)


def test_workers_read_the_factory_again():
    path = write(Path("nets.py"), NET)
    with plugins.use([f"{path}:make"]) as (plugin,):
        assert (plugin.kind, plugin.name) == ("backbone", "make")
    with plugins.use([plugin]):
        network = backbones.build("make", {"width": 3}, TaskShape((1,), 2))
        assert [layer.outputs for layer in network.layers] == [3, 2]
    assert "make" not in backbones.names()
    write(path, NET + "# changed\n")
    with pytest.raises(PluginError, match="every worker must see the same file"):
        plugins.use([plugin]).__enter__()


def test_a_factory_that_workers_cannot_read_is_refused():
    def nested(inputs: Any, outputs: int) -> nn.Module:
        return nn.Linear(1, outputs)

    where = "at the top level of a file"
    for factory in (nested, lambda inputs, outputs: nested(inputs, outputs),
                    functools.partial(nested), NET):  # fmt: skip
        with pytest.raises(PluginError, match=where):
            train("first", backbone=factory)
    shell = types.ModuleType("__console__")
    sys.modules["__console__"] = shell
    exec(compile(NET, "<stdin>", "exec"), shell.__dict__)
    with pytest.raises(PluginError, match=r"make: it stands in no file .*write it to a file"):
        train("first", backbone=shell.make)
    del sys.modules["__console__"]
    assert not Path("runs").exists()


def test_a_factory_can_be_checked():
    make = imported(write(Path("my_net.py"), NET), "my_net").make
    assert metadist.check(make).name == "make"
    for given in (functools.partial(make), 3):
        with pytest.raises(PluginError, match=r"a function or class|what makes a network"):
            metadist.check(given)  # type: ignore[arg-type]


def test_a_program_that_trains_when_it_is_imported_is_told_where_to_put_it():
    text = NET + f"\nimport metadist\n\nmetadist.train({RECIPE!r}, backbone=make, offline=True)\n"
    path = write(Path("program.py"), text)
    with pytest.raises(PluginError, match="below if __name__ == '__main__':"):
        imported(path, "program")
    assert not Path("runs").exists()
    # And afterwards everything works.
    path = write(Path("nets.py"), NET)
    train("first", backbone=imported(path, "nets").make)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nets.py:gone", "there is no 'gone' in that file"),
        ("nets.py:nn", "from_module needs a function"),
        ("mlp.py:mlp", "the name 'mlp' is taken by the built-in backbone"),
    ],
)
def test_mistakes_are_told_in_a_line(given: str, words: str):
    write(Path("nets.py"), NET)
    write(Path("mlp.py"), NET.replace("def make", "def mlp"))
    with pytest.raises(PluginError, match=words) as error:
        plugins.use([given]).__enter__()
    assert len(str(error.value).splitlines()) == 1
