"""A file is replaced whole or not at all, and who cannot write says where."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.errors import UnsafeData
from data_pipeline.storage.local import inside, links_followed, write_atomic


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """The kernel refuses to make any file larger than 1 KiB; around a single call only, because
    the test runner's own output may go to a file.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_without_room_the_old_file_stays_and_the_error_names_it(tmp_path: Path):
    path = tmp_path / "figures.json"
    write_atomic(path, b"old")
    with pytest.raises(OSError, match="figures") as caught, no_room():
        write_atomic(path, bytes(100_000))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["figures.json"]


def test_a_reader_has_the_old_bytes_or_the_new_ones(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "figures.json"
    write_atomic(path, b"old")
    held = path.open("rb")
    seen: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.read_bytes()))
    write_atomic(path, b"newer")
    assert seen[0] == b"old"
    assert (held.read(), path.read_bytes()) == (b"old", b"newer")
    held.close()


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/hostname", "", ".", "a\x00b"])
def test_no_name_leads_out(name: str, tmp_path: Path) -> None:
    with links_followed(), pytest.raises(UnsafeData, match="inside"):
        inside(tmp_path, name)
    assert inside(tmp_path, "a/b") == tmp_path / "a" / "b"
