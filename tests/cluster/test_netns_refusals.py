"""What cluster/netns refuses, and that it leaves nothing behind then."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "netns"
Netns = Callable[..., int]


def _nothing_is_run(*command: str) -> str:
    raise AssertionError(command)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script; root and its tools are taken for granted, and nothing is made on this box."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = spec_from_loader("netns", SourceFileLoader("netns", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "netns", module)  # its dataclasses look for it there
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "is_root", lambda: True)
    monkeypatch.setattr(module, "run", _nothing_is_run)
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/sbin/{tool}")
    before = os.umask(0o022)
    yield module
    os.umask(before)


@pytest.fixture
def netns(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Netns:
    """The script's main function."""

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["netns", *arguments])
        found: int = script.main()
        return found

    return call


def test_without_root(
    script: ModuleType,
    netns: Netns,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "is_root", lambda: False)
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


VERBS = (
    ["up", "1", "--bin=/x"],
    ["status"],
    ["exec", "1", "--", "true"],
    ["power-on", "1"],
    ["down"],
)
#: What somebody else would like to see run.
THEIRS = '{"count": 1, "cables": {}, "bin": "/tmp/theirs", "env": ["LD_PRELOAD=/tmp/theirs.so"]}'


@pytest.mark.parametrize("arguments", VERBS, ids=lambda v: v[0])
def test_a_directory_of_somebody_else(
    netns: Netns,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    (tmp_path / "plan.json").write_text(THEIRS)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert netns("--state", str(tmp_path), *arguments) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path} belongs to user {os.getuid()}" in said
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", ["plan.json", "machine-1.pid", "hosts", "lock"])
def test_a_file_of_somebody_else(
    netns: Netns, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "plan.json").write_text(THEIRS)
    (tmp_path / name).touch()
    os.chown(tmp_path / name, 12345, 12345)
    assert netns("--state", str(tmp_path), "status") == 1
    assert f"{name} belongs to user 12345" in capsys.readouterr().err


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_directory_that_others_may_write_in(
    netns: Netns, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    tmp_path.chmod(mode)
    assert netns("--state", str(tmp_path), "up", "1", "--bin=/x") == 1
    assert f"chmod go-w {tmp_path}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_plan_that_others_may_write(
    netns: Netns, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    (tmp_path / "plan.json").write_text(THEIRS)
    (tmp_path / "plan.json").chmod(mode)
    assert netns("--state", str(tmp_path), "status") == 1
    assert f"chmod go-w {tmp_path / 'plan.json'}" in capsys.readouterr().err


def test_links(netns: Netns, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To a directory, to none, and in a directory: nothing is written where they lead."""
    there, state = tmp_path / "there", tmp_path / "state"
    state.symlink_to(there)
    for _ in range(2):
        assert netns("--state", str(state), "up", "1", "--bin=/x") == 1
        assert "is no directory" in capsys.readouterr().err
        there.mkdir(exist_ok=True)
    state.unlink()
    (there / "lock").symlink_to(tmp_path / "elsewhere")
    assert netns("--state", str(there), "up", "1", "--bin=/x") == 1
    assert "lock is a link" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_what_is_written_is_our_own_whatever_the_umask(
    script: ModuleType, netns: Netns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is a new file; none can be written by others, so that the next command works."""
    state = tmp_path / "state"
    monkeypatch.setattr(script, "run", lambda *command: "")
    monkeypatch.setattr(script, "OWN", ())
    monkeypatch.setattr(script.Rehearsal, "power_on", lambda *_: None)
    os.umask(0)
    options = ["--prefix", "nobody", "--subnet", "10.0.0.0/24", "--no-ray"]
    assert netns("--state", str(state), "up", "1", *options) == 0
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [state, *state.iterdir()]}
    assert modes == {
        "state": 0o700, "plan.json": 0o600, "token": 0o600, "hosts": 0o644, "lock": 0o644
    }  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{64}", (state / "token").read_text())
    assert netns("--state", str(state), "status") == 0


def test_a_secret_is_never_written_into_what_is_there(script: ModuleType, tmp_path: Path) -> None:
    elsewhere, token = tmp_path / "elsewhere", tmp_path / "token"
    elsewhere.write_text("theirs")
    token.symlink_to(elsewhere)
    script.write_secret(token, "ours")
    assert (token.read_text(), elsewhere.read_text()) == ("ours", "theirs")
    assert not token.is_symlink()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
