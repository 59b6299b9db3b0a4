"""Building the kernels: kept by digest, whole or not at all, clear where it cannot be done."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metadist.errors import ResourceError
from metadist.kernels import build, library
from metadist.kernels.library import Library

#: A compiler that writes a file at once.
FAKE = """#!/bin/sh
case "$1" in --version) echo fake {version}; exit 0;; esac
for last; do :; done
printf compiled > "$last"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A compiler that takes no time."""
    path = tmp_path / "fake-c++"
    monkeypatch.setenv("CXX", str(path))
    say(path, "1.0")
    yield path
    build.compiler_version.cache_clear()


def say(path: Path, version: str) -> None:
    path.write_text(FAKE.format(version=version))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    build.compiler_version.cache_clear()


TARGET = build.TARGETS[-1]
ROOT = Path(__file__).parents[2]


def test_a_build_is_kept_and_another_compilers_is_another(fake: Path, tmp_path: Path):
    first = build.build(TARGET, tmp_path / "cache")
    assert first.read_text() == "compiled"
    first.write_text("kept")
    assert build.build(TARGET, tmp_path / "cache") == first
    assert first.read_text() == "kept"
    say(fake, "2.0")
    second = build.build(TARGET, tmp_path / "cache")
    assert second != first
    assert {p.name for p in (tmp_path / "cache").iterdir()} == {first.name, second.name}
    assert build.build(TARGET, tmp_path / "cache", ["-g"]) not in (first, second)


def test_the_source_decides_which_build_is_found(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(build, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(build, "PREBUILT", tmp_path / "prebuilt")
    assert build.built(TARGET) is None
    path = build.build(TARGET, tmp_path / "cache")
    assert build.built(TARGET) == path
    monkeypatch.setattr(build, "source_digest", lambda: "another")
    assert build.built(TARGET) is None
    shipped = build.build(TARGET, tmp_path / "prebuilt")
    build.build(TARGET, tmp_path / "cache")
    assert build.built(TARGET) == shipped


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.NoCompiler, match="install a C\\+\\+ compiler"):
        build.build(TARGET, tmp_path / "cache")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(build.NoCompiler, match="CXX names 'no-such-compiler'"):
        build.build(TARGET, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_compiler_that_fails_is_quoted(fake: Path, tmp_path: Path):
    fake.write_text(
        FAKE.format(version="1").replace("for last", "echo what it says >&2; exit 1; for last")
    )
    build.compiler_version.cache_clear()
    with pytest.raises(build.NoCompiler, match="what it says"):
        build.build(TARGET, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_place_that_cannot_be_written(fake: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        build.build(TARGET, tmp_path / "file" / "cache")


def test_where_builds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "HERE", tmp_path / "site" / "metadist" / "kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_dir() == tmp_path / "metadist" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.cache_dir() == tmp_path / ".cache" / "metadist" / "kernels"


def test_nothing_built_is_an_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "built", lambda target: None)
    assert library.find() is None
    library.load.cache_clear()
    assert library.available() is None
    with pytest.raises(ResourceError, match=r"python -m metadist\.kernels\.build"):
        library.load()


def test_the_command_without_a_compiler(tmp_path: Path):
    environment = {**os.environ, "CXX": "no-such-compiler"}
    command = [sys.executable, "-m", "metadist.kernels.build", "--into", str(tmp_path)]
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "error: kernels: CXX names" in failed.stderr
    done = subprocess.run(
        [*command, "--optional"], env=environment, capture_output=True, text=True, check=True
    )
    assert "with torch alone" in done.stdout


def test_targets_are_ordered_and_one_is_always_possible(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "processor_features", frozenset)
    assert [target.name for target in build.possible()] == ["portable"]
    everything = frozenset().union(*(target.features for target in build.TARGETS))
    monkeypatch.setattr(build, "processor_features", lambda: everything)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert [target.name for target in build.possible()] == ["x86-64-v4", "x86-64-v3", "portable"]
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert [target.name for target in build.possible()] == ["portable"]


def test_it_needs_the_c_library_and_nothing_else(kernels: Library):
    nm = shutil.which("nm")
    if nm is None or sys.platform != "linux":
        pytest.skip("no nm")
    said = subprocess.run([nm, "-D", str(kernels.path)], capture_output=True, text=True, check=True)
    wanted = {line.split()[-1] for line in said.stdout.splitlines() if " U " in line}
    assert {name.partition("@")[0] for name in wanted} <= {"memcpy", "memset", "memmove"}
    versions = re.findall(r"GLIBC_2\.(\d+)", " ".join(wanted))
    assert all(int(version) <= 17 for version in versions)


def test_buffers_are_checked():
    x = torch.zeros(4, 6)
    assert library.address(x, torch.float32, 24) == x.data_ptr()
    for wrong, count in ((x.double(), 24), (x.t(), 24), (x, 25), (x.to("meta"), 24)):
        with pytest.raises(ValueError, match="kernels: "):
            library.address(wrong, torch.float32, count)


def test_structures_are_as_large_as_in_c(kernels: Library):
    # 15 and 8 whole numbers, and what follows in double begins at a multiple of 8 bytes.
    assert ctypes.sizeof(library.Shape) == 64 + 16
    assert ctypes.sizeof(library.Block) == 32 + 8
    assert len(kernels.digest) == 64


@pytest.mark.parametrize("prebuilt", ["0", "1"])
def test_a_wheel_carries_them_where_it_is_asked_to(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prebuilt: str
):
    monkeypatch.setenv("METADIST_PREBUILT", prebuilt)
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist")]
    subprocess.run([sys.executable, *command, str(ROOT)], capture_output=True, check=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.endswith(".so")]
    targets = build.of_this_architecture() if prebuilt == "1" else []
    assert len(names) == len(targets)
    for target in targets:
        place = f"metadist/kernels/prebuilt/{build.stem(target)}-"
        assert [name for name in names if name.startswith(place)]
    assert wheel.name.endswith("-none-any.whl") == (prebuilt == "0")
