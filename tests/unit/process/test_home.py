"""A user without name or home, and places where a private Ray cannot have its sockets."""

from __future__ import annotations

import getpass
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from metadist.errors import ResourceError
from metadist.executors.cluster import ray_files
from metadist.executors.cluster.ray_files import did_not_start, private_directory, ray_directory
from metadist.process import home


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is set is taken back."""
    for name in (*home.CACHES, "HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    home.settle.cache_clear()
    yield
    home.settle.cache_clear()


def _nobody(uid: int) -> None:
    raise KeyError(uid)


@pytest.mark.usefixtures("settle")
@pytest.mark.parametrize("given", [None, "/nonexistent", "relative"])
def test_who_has_no_name_and_no_home_gets_both(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pwd.getpwuid", _nobody)
    if given is not None:
        monkeypatch.setenv("HOME", given)
    name, place = home.settle()
    assert f"user {os.getuid()} has no name" in name
    assert "is not there" in place
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert Path.home().is_dir()
    assert all(Path(os.environ[cache]).parent == Path.home() for cache in home.CACHES)


@pytest.mark.usefixtures("settle")
def test_a_home_that_can_only_be_read_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.settle() == ()
    assert "MPLCONFIGDIR" not in os.environ
    home.settle.cache_clear()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    (line,) = home.settle()
    assert "cannot be written to" in line
    assert Path.home() == tmp_path
    assert Path(os.environ["MPLCONFIGDIR"]).parent.is_dir()
    # A process that this one starts, as for a trial, is killed and would leave its own behind.
    made = os.environ["MPLCONFIGDIR"]
    home.settle.cache_clear()
    assert home.settle() == ()
    assert os.environ["MPLCONFIGDIR"] == made


def test_ray_gets_a_short_directory_that_is_the_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("scratch" * 12)
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long))
    said: list[str] = []
    with private_directory(said.append) as place:
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert len(ray_directory(place)) < 44
        assert "too long" in said[0]
        assert str(long) in said[0]
    assert not place.exists()
    assert not list(long.iterdir())


def test_a_machine_without_a_place_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_files, "_PLACES", ("/proc",))
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setenv("RAY_TMPDIR", "")
    (tmp_path / ("d" * 90)).mkdir()
    monkeypatch.chdir(tmp_path / ("d" * 90))
    with (
        pytest.raises(ResourceError, match=r"/nonexistent \(No such .*too long.*RAY_TMPDIR"),
        private_directory(lambda line: None),
    ):
        pass


def test_why_ray_does_not_start_is_in_its_logs(tmp_path: Path) -> None:
    logs = Path(ray_directory(tmp_path)) / "session_2026-01-31_12-00-00_123456_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.err").write_text("[12:00 I 1] fine\n[12:00 C 1] Check failed: no room\nend\n")
    said = did_not_start(tmp_path, RuntimeError("\nThe node timed out.\nMore."))
    assert "The node timed out" in said
    assert "raylet.err: [12:00 C 1] Check failed: no room" in said
