"""Machines for the tests of cluster/."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import Machines, machines_or_skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Three machines without Ray."""
    machines_or_skip()
    with Machines(tmp_path_factory.mktemp("bare") / "state", 3, "--no-ray") as machines:
        yield machines


def _left(machines: Machines) -> list[str]:
    links = [p.name for p in Path("/sys/class/net").iterdir()]
    spaces = [p.name for p in Path("/run/netns").iterdir()] if Path("/run/netns").exists() else []
    found = [name for name in links + spaces if name.startswith(machines.prefix)]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                seen = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(machines.state).encode() in seen:
                found.append(f"process {entry.name}")
    return found + [str(p) for p in machines.state.glob("*")]


@pytest.fixture
def left() -> Callable[[Machines], list[str]]:
    """What is to be found of machines: links, networks, processes, files."""
    return _left
