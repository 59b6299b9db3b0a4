"""A private Ray, as a command starts one in the shell of somebody who has never used Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

#: Has a private Ray compute, twice in one process; then a stranger asks the second one.
CODE = """
import os, subprocess, sys
import ray
from metadist.executors.cluster.connection import connected
from metadist.executors.cluster.ray_processes import RayProcess

def environ():
    return {k: v for k, v in os.environ.items() if k.startswith("RAY")}

before = environ()
with connected(None, 1, print):
    assert ray.get(ray.remote(lambda: 6 * 7).remote()) == 42
    commands = [open(f"/proc/{one.pid}/cmdline").read() for one in RayProcess.alive]
    # A head that is started here for jobs needs the other port, and tries no second one.
    assert any("--listen-port=0" in command for command in commands)
assert environ() == before
with connected(None, 1, print):
    assert ray.get(ray.remote(lambda: 6 * 7).remote()) == 42
    address = ray.get_runtime_context().gcs_address
    stranger = {**os.environ, "HOME": sys.argv[1], "RAY_AUTH_MODE": "disabled"}
    ask = [sys.executable, "-c", f"import ray; ray.init(address={address!r})"]
    done = subprocess.run(ask, env=stranger, capture_output=True, text=True)
    print("refused" if done.returncode else "let in", done.stderr)
"""


def test_it_works_at_once_and_lets_no_stranger_in(tmp_path: Path) -> None:
    """Ray reads its mode when it is imported and makes the token where there is none yet."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(elsewhere)],
        env={**environ, "HOME": str(home), "RAY_gcs_server_port_wait_time_s": "5"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "refused" in done.stdout
    assert "token" in done.stdout.lower()
    assert not list(home.rglob("auth_token")), "Ray's that are started later would want it"
