"""Processes of ``metadist reproduce``: at once, one after the other, and never left behind."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil
import pytest

from metadist.reproduce.display import Display
from metadist.reproduce.jobs import Active, Command, Job, Jobs


def shell(name: str, *scripts: str) -> Job:
    return Job(name, tuple(Command(("sh", "-c", s), f"part {i}") for i, s in enumerate(scripts)))


def test_a_failure_stops_nothing_else(tmp_path):
    todo = [
        shell("a", f"echo one > {tmp_path}/a", f"echo two >> {tmp_path}/a"),
        shell("b", "echo Error: it broke >&2; echo more; exit 3", f"echo never > {tmp_path}/b"),
        shell("c", "exit 7"),
    ]
    outcomes = Jobs(tmp_path / "logs", at_once=2).run(todo)
    assert {n: o.state for n, o in outcomes.items()} == {"a": "done", "b": "failed", "c": "failed"}
    assert (tmp_path / "a").read_text() == "one\ntwo\n"
    assert not (tmp_path / "b").exists()
    assert outcomes["b"].why.startswith("it broke (part 0; see ")
    assert "it said nothing" in outcomes["c"].why


def test_what_cannot_be_started_has_failed(tmp_path):
    missing = Command((str(tmp_path / "gone"),), "nothing")
    good = Command(("true",), "something")
    todo = [Job("a", (missing,)), Job("b", (good, missing)), Job("c", (good,))]
    outcomes = Jobs(tmp_path / "logs").run(todo)
    assert [outcomes[name].state for name in "abc"] == ["failed", "failed", "done"]
    assert "No such file" in outcomes["a"].why
    assert "No such file" in outcomes["b"].why


def test_when_the_time_is_up_all_end_gently(tmp_path):
    gentle = f"trap 'echo asked > {tmp_path}/asked; exit 1' INT; while :; do sleep 0.05; done"
    todo = [shell("a", gentle, "echo never"), shell("b", "sleep 0"), shell("c", "sleep 0")]
    deadline = time.monotonic() + 0.6
    outcomes = Jobs(tmp_path / "logs", deadline=deadline).run(todo)
    assert outcomes["a"].state == "stopped"
    assert "the time was up while part 0" in outcomes["a"].why
    assert [outcomes[name].state for name in "bc"] == ["waiting"] * 2
    assert (tmp_path / "asked").exists()


def test_no_process_outlives_an_interrupt(tmp_path):
    begun: list[Active] = []

    class Interrupter(Display):
        def looked(self, active: Sequence[Active], waiting: int) -> None:
            begun.extend(active)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Jobs(tmp_path, at_once=2, watch=Interrupter({}, {}, io.StringIO())).run(
            [shell("a", "exec sleep 60"), shell("b", "exec sleep 60")]
        )
    assert len(begun) == 2
    assert all(one.process.poll() == -signal.SIGINT for one in begun)


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = (
        "from pathlib import Path; from metadist.reproduce.jobs import *; import sys; "
        "Jobs(Path(sys.argv[1])).run([Job('a', (Command(('sleep', '60'), 'x'),))])"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        deadline = time.monotonic() + 30
        while not (children := psutil.Process(parent.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while children[0].name() != "sleep":  # between fork and exec it cannot be told yet
            time.sleep(0.02)
        parent.kill()
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert gone
        assert not alive
    finally:
        parent.kill()
        parent.wait()
