"""A file is replaced whole or not at all, and who cannot write says where."""

from __future__ import annotations

import contextlib
import errno
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_pipeline.storage.local import write_atomic


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
