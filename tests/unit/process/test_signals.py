"""Being asked to end: once, twice, by whom, and when nobody listens any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from metadist.errors import Terminated
from metadist.process.signals import SAME_SECONDS, STOP_SIGNALS, StopRequest, kept


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test's signal is the same as that of the one before; handlers are as they were."""
    monkeypatch.setattr(StopRequest, "_taken", -SAME_SECONDS)
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    yield
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_is_noted_and_a_later_one_ends(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    with StopRequest(tell=lambda: told.append(True)) as asked:
        asked.check()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # as timeout does, and a shell
        assert asked.event.is_set()
        monkeypatch.setattr(StopRequest, "_taken", time.monotonic() - SAME_SECONDS)
        with pytest.raises(Terminated) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
    assert told == [True]
    assert ended.value.exit_status == 128 + number


def test_where_nobody_listens_the_first_ends() -> None:
    with pytest.raises(Terminated), StopRequest(handled=False):
        os.kill(os.getpid(), signal.SIGHUP)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest(handled=False):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_is_not_waited_for_those_who_are_gone() -> None:
    gone = threading.Event()
    with StopRequest(pointless=gone.is_set):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        gone.set()
        with pytest.raises(Terminated) as ended:
            time.sleep(30)
    assert ended.value.exit_status == 130


def test_handlers_of_others_do_not_stay() -> None:
    def theirs() -> None:
        with kept():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        theirs()


@pytest.mark.parametrize("again", [False, True])
def test_a_signal_waits_until_ray_has_connected(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metadist.executors.cluster import connection, host_process

    connected: list[bool] = []

    def connect(**_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        if again:
            monkeypatch.setattr(StopRequest, "_taken", time.monotonic() - SAME_SECONDS)
            os.kill(os.getpid(), signal.SIGINT)
        connected.append(True)

    hanging = threading.Event()
    monkeypatch.setattr(host_process, "HANGING", hanging)
    monkeypatch.setattr("ray.init", connect)
    with (
        StopRequest(handled=False),
        pytest.raises(Terminated) as ended,
        connection.connected(None, 1, lambda _: None),
    ):
        pytest.fail("nobody wants Ray any more")
    assert ended.value.exit_status == 130
    # What was interrupted amid its connection would crash at the end of the process.
    assert (connected, hanging.is_set()) == (([], True) if again else ([True], False))


@pytest.mark.parametrize("lost", ["stderr", "stdout"])
def test_a_reader_who_is_gone_does_not_hide_how_a_command_has_ended(lost: str) -> None:
    code = (
        "import os, signal, sys, click\n"
        "from metadist.cli import main\n"
        "def work():\n"
        "    print('lost'); main.say('lost')\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "main._Group.get_command = lambda *_: click.Command('x', callback=work)\n"
        "main.main(['x'])\n"
    )
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    streams: dict[str, Any] = {lost: write}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, **streams)
    os.close(write)
    assert done.returncode == 143
