"""Jobs in a pool: at once, their commands one after the other, no process left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from metadist.executors.local_process import LocalProcess, on_this_machine
from metadist.executors.pool import Active, Command, Job, Pool, Watcher

HERE = on_this_machine({})


def shell(folder: Path, name: str, *scripts: str) -> Job:
    parts = tuple(Command(("sh", "-c", s), f"part {i}") for i, s in enumerate(scripts))
    return Job(name, parts, folder / "logs" / f"{name}.txt")


def test_a_failure_stops_nothing_else(tmp_path):
    todo = [
        shell(tmp_path, "a", f"echo one > {tmp_path}/a", f"echo two >> {tmp_path}/a"),
        shell(
            tmp_path,
            "b",
            "echo Error: it broke >&2; echo more; exit 3",
            f"echo never > {tmp_path}/b",
        ),
        shell(tmp_path, "c", "exit 7"),
    ]
    outcomes = Pool(HERE, at_once=2).run(todo)
    assert {n: o.state for n, o in outcomes.items()} == {"a": "done", "b": "failed", "c": "failed"}
    assert (tmp_path / "a").read_text() == "one\ntwo\n"
    assert not (tmp_path / "b").exists()
    assert outcomes["b"].why.startswith("it broke (part 0; see ")
    assert "it said nothing" in outcomes["c"].why


def test_after_a_failure_nothing_is_started_if_nothing_is_to_go_on(tmp_path):
    todo = [shell(tmp_path, "a", "exit 7"), shell(tmp_path, "b", "sleep 1"), shell(tmp_path, "c")]
    outcomes = Pool(HERE, at_once=2, go_on=False).run(todo)
    assert [outcomes[name].state for name in "abc"] == ["failed", "done", "waiting"]
    assert str(outcomes["a"].error) == "it said nothing"


def test_what_cannot_be_started_has_failed(tmp_path):
    missing = Command((str(tmp_path / "gone"),), "nothing")
    good = Command(("true",), "something")
    parts = {"a": (missing,), "b": (good, missing), "c": (good,)}
    outcomes = Pool(HERE).run([Job(n, p, tmp_path / f"{n}.txt") for n, p in parts.items()])
    assert [outcomes[name].state for name in "abc"] == ["failed", "failed", "done"]
    assert "No such file" in outcomes["a"].why
    assert "No such file" in outcomes["b"].why


def test_when_the_time_is_up_all_end_gently(tmp_path):
    gentle = f"trap 'echo asked > {tmp_path}/asked; exit 1' INT; while :; do sleep 0.05; done"
    todo = [
        shell(tmp_path, "a", gentle, "echo never"),
        shell(tmp_path, "b", "sleep 0"),
        shell(tmp_path, "c", "sleep 0"),
    ]
    deadline = time.monotonic() + 0.6
    outcomes = Pool(HERE, deadline=deadline).run(todo)
    assert outcomes["a"].state == "stopped"
    assert "the time was up while part 0" in outcomes["a"].why
    assert [outcomes[name].state for name in "bc"] == ["waiting"] * 2
    assert (tmp_path / "asked").exists()


def test_no_process_outlives_an_interrupt(tmp_path):
    begun: list[Active] = []

    class Interrupter(Watcher):
        def looked(self, active: Sequence[Active], waiting: int) -> None:
            begun.extend(active)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pool(HERE, at_once=2, watch=Interrupter()).run(
            [shell(tmp_path, "a", "exec sleep 60"), shell(tmp_path, "b", "exec sleep 60")]
        )
    assert len(begun) == 2
    for one in begun:
        assert isinstance(one.process, LocalProcess)
        assert one.process.process.returncode == -signal.SIGINT


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = (
        "from pathlib import Path; from metadist.executors.pool import *; import sys; "
        "from metadist.executors.local_process import on_this_machine; "
        "job = Job('a', (Command(('sleep', '60'), 'x'),), Path(sys.argv[1], 'log')); "
        "Pool(on_this_machine({})).run([job])"
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
