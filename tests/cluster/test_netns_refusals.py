"""What cluster/netns refuses, and that it leaves nothing behind then."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "netns"
Netns = Callable[..., int]


@pytest.fixture
def netns(monkeypatch: pytest.MonkeyPatch) -> Netns:
    """The script's main function; root and its tools are taken for granted."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = spec_from_loader("netns", SourceFileLoader("netns", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "netns", module)  # its dataclasses look for it there
    spec.loader.exec_module(module)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/sbin/{tool}")

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["netns", *arguments])
        found: int = module.main()
        return found

    return call


def test_without_root(
    netns: Netns, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert netns("--state", "/nowhere", "up", "2") == 1
    assert "root is needed" in capsys.readouterr().err


def test_without_tools(
    netns: Netns, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert netns("--state", "/nowhere", "status") == 1
    assert "apt-get install iproute2 util-linux" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "0"], "up 0: 1 to 200 machines"),
        (["up", "201"], "up 201: 1 to 200 machines"),
        (["up", "1", "--prefix", "Bad-1"], "--prefix 'Bad-1': 1 to 8 of a-z"),
        (["up", "1", "--prefix", "md1"], "no digit first or last"),
        (["up", "1", "--prefix", "nobody", "--subnet", "10.0.0.1/24"], "has host bits set"),
        (["up", "1", "--prefix", "nobody", "--subnet", "10.0.0.0/16"], "a /24 is needed"),
        (["up", "1", "--prefix", "nobody", "--subnet", "10.0.0.0/24", "--env", "A"], "NAME=VALUE"),
        (["up", "1", "--prefix", "nobody", "--subnet", "10.0.0.0/24", "--own", "x"], "absolute"),
        (
            ["up", "1", "--prefix", "nobody", "--subnet", "10.0.0.0/24", "--bin", "/x"],
            "no 'ray' in",
        ),
        (["power-off", "1"], "nothing is up"),
        (["exec", "1", "--", "true"], "nothing is up"),
    ],
)
def test_refused(
    netns: Netns,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    assert netns("--state", str(tmp_path / "state"), *arguments) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_something_else_in_it(
    netns: Netns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("mine")
    options = ["--prefix", "nobody", "--subnet", "10.0.0.0/24", "--no-ray"]
    assert netns("--state", str(tmp_path), "up", "1", *options) == 1
    assert "holds token, which is not ours" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["token"]
    assert (tmp_path / "token").read_text() == "mine"


def test_a_damaged_plan(netns: Netns, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text('{"count": 1, "cables": {}, "more": 1}')
    assert netns("--state", str(tmp_path), "status") == 1
    assert "plan.json is damaged" in capsys.readouterr().err


def test_nothing_is_up(netns: Netns, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert netns("--state", str(tmp_path / "state"), "down") == 0
    assert netns("--state", str(tmp_path / "state"), "status") == 0
    assert "nothing is up" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
