"""Machines of one box behave as machines do: alone, off, cut off, slow, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import SCRIPT, Machines, machines_or_skip, wait

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.faults]

#: Says what it hears on a connection within three seconds.
LISTENER = """
import socket
server = socket.create_server(("0.0.0.0", 7000))
print("listening", flush=True)
peer = server.accept()[0]
print("connected", flush=True)
peer.settimeout(3)
try:
    print("closed" if peer.recv(1) == b"" else "data", flush=True)
except TimeoutError:
    print("silence", flush=True)
except OSError:
    print("closed", flush=True)
"""
CALLER = "import socket, sys, time; s = socket.create_connection((sys.argv[1], 7000), 5); {}"


def _call(machines: Machines, number: int, then: str) -> subprocess.Popen[bytes]:
    return machines.start(number, "python", "-c", CALLER.format(then), f"{machines.prefix}1")


def _listen(machines: Machines) -> subprocess.Popen[bytes]:
    server = machines.start(1, "python", "-c", LISTENER, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"listening\n"
    return server


def _reaches(machines: Machines, number: int) -> bool:
    server = _listen(machines)
    try:
        return _call(machines, number, "s.send(b'x')").wait(30) == 0
    finally:
        machines.kill_command(server)


def test_each_machine_is_its_own(bare: Machines, tmp_path: Path) -> None:
    ask = "import os, socket; print(socket.gethostname(), os.listdir('/sys/class/net'))"
    said = [bare.run(i, "python", "-c", ask).split(maxsplit=1) for i in (1, 2, 3)]
    assert [name for name, _ in said] == [f"{bare.prefix}{i}" for i in (1, 2, 3)]
    assert all(sorted(eval(links)) == ["eth0", "lo"] for _, links in said)
    assert len(bare.run(2, "sh", "-c", "ls -d /proc/[0-9]*").split()) <= 4
    bare.run(2, "touch", "/dev/shm/mine", "/tmp/ray/mine", str(tmp_path / "shared"))
    there = bare.run(3, "ls", "/dev/shm", "/tmp/ray", str(tmp_path))
    assert "mine" not in there
    assert "shared" in there


def test_a_command_ends_as_it_ends(bare: Machines) -> None:
    assert bare.start(2, "sh", "-c", "exit 7").wait(20) == 7
    assert bare.run(2, "pwd").strip() == os.getcwd()
    assert bare.run(2, "printenv", "RAY_AUTH_MODE").strip() == "token"
    asleep = bare.start(2, "sleep", "1000")
    wait(lambda: "sleep" in bare.run(2, "sh", "-c", "cat /proc/[0-9]*/comm"), "it to run", 20)
    bare.kill_command(asleep)
    assert "sleep" not in bare.run(2, "sh", "-c", "cat /proc/[0-9]*/comm")


@pytest.mark.parametrize(("verb", "heard"), [("power_off", b"silence\n"), ("kill", b"closed\n")])
def test_what_the_others_hear_of_its_end(bare: Machines, verb: str, heard: bytes) -> None:
    server = _listen(bare)
    assert server.stdout is not None
    caller = _call(bare, 2, "time.sleep(1000)")
    assert server.stdout.readline() == b"connected\n"
    getattr(bare, verb)(2)
    assert server.stdout.readline() == heard
    assert caller.wait(20) != 0
    assert bare.status()["machines"][1]["power"] == "off"
    bare.power_on(2)
    assert _reaches(bare, 2)


def test_partition_and_heal(bare: Machines) -> None:
    bare.partition(3)
    assert not _reaches(bare, 3)
    assert _reaches(bare, 2)
    bare.power_off(3)
    bare.power_on(3)  # a cut cable is still cut
    assert not _reaches(bare, 3)
    bare.heal(3)
    assert _reaches(bare, 3)


def test_slow_link(bare: Machines) -> None:
    send = "began = time.time(); s.sendall(bytes(500_000)); s.shutdown(1); "
    send += "print(time.time() - began if s.recv(1) == b'' else 'unheard')"
    swallow = "import socket; s = socket.create_server(('0.0.0.0', 7000)); print(flush=True); "
    swallow += "p = s.accept()[0]\nwhile p.recv(65536): pass"

    def seconds() -> float:
        server = bare.start(1, "python", "-c", swallow, stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        return float(bare.run(2, "python", "-c", CALLER.format(send), f"{bare.prefix}1"))

    bare.slow_link(2, "2mbit")
    assert seconds() > 1.5  # 4 Mbit through 2 Mbit/s
    bare.slow_link(2, "off")
    assert bare.status()["machines"][1]["cable"] == "whole"
    wrong = [str(SCRIPT), "--state", str(bare.state), "slow-link", "2", "fast"]
    refused = subprocess.run(wrong, capture_output=True, text=True)
    assert refused.returncode == 1
    assert 'illegal value for "rate": "fast"' in refused.stderr
    assert bare.status()["machines"][1]["cable"] == "whole"


def test_up_and_down_again(tmp_path: Path, left: Callable[[Machines], list[str]]) -> None:
    """Beside other machines, twice each, and nothing is left."""
    machines_or_skip()
    with Machines(tmp_path / "state", 1, "--no-ray", "--env=A=b c") as machines:
        first = machines.status()
        assert machines.run(1, "printenv", "A") == "b c\n"
        machines.verb("up", "1")
        assert machines.status() == first
        machines.grow(2)
        assert machines.status()["machines"][0] == first["machines"][0]
        assert _reaches(machines, 2)
        assert left(machines)
        machines.verb("down")
        assert left(machines) == []
        assert not machines.state.exists()


def test_up_that_failed_half_way_is_removed(
    tmp_path: Path, left: Callable[[Machines], list[str]]
) -> None:
    machines_or_skip()
    machines = Machines(tmp_path / "state", 2, "--no-ray")
    (machines.state / "machine-2.new").mkdir(parents=True)  # where it would write its process id
    with pytest.raises(
        AssertionError, match=r"machine 2 does not boot: the end of .*machine-2.log"
    ):
        machines.verb("up", "2", f"--prefix={machines.prefix}", "--no-ray")
    assert machines.status()["machines"][0]["power"] == "on"
    (machines.state / "machine-2.new").rmdir()
    machines.verb("down")
    assert left(machines) == []
