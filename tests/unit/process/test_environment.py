"""Variables that are set for a while."""

from __future__ import annotations

import os
import random
import signal
import threading

import pytest

from metadist.executors.cluster.host_process import process_restored
from metadist.process.environment import variables

A, B = "METADIST_TEST_A", "METADIST_TEST_B"


def test_they_are_there_inside_and_gone_afterwards(monkeypatch):
    monkeypatch.setenv(B, "the user's")
    with variables({A: "15", B: "15"}):
        assert (os.environ[A], os.environ[B]) == ("15", "the user's")
        with variables({A: "5"}):
            assert os.environ[A] == "5"
        assert os.environ[A] == "15"
    assert A not in os.environ
    assert os.environ[B] == "the user's"


def test_what_the_user_sets_meanwhile_stays(monkeypatch):
    monkeypatch.setenv(A, "")  # so that it is gone at the end
    monkeypatch.delenv(A)
    with variables({A: "15"}):
        monkeypatch.setenv(A, "77")
        with variables({A: "5"}):
            assert os.environ[A] == "77"
    assert os.environ[A] == "77"


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_blocks_of_several_threads_may_overlap(first_ends_first):
    ends = {name: threading.Event() for name in "ab"}
    inside = {name: threading.Event() for name in "ab"}

    def hold(name: str) -> None:
        with variables({A: name}):
            inside[name].set()
            ends[name].wait(10)

    threads = {}
    for name in "ab":
        threads[name] = threading.Thread(target=hold, args=(name,))
        threads[name].start()
        inside[name].wait(10)
    order = "ab" if first_ends_first else "ba"
    assert os.environ[A] == "b"
    ends[order[0]].set()
    threads[order[0]].join()
    assert os.environ[A] == order[1]
    ends[order[1]].set()
    threads[order[1]].join()
    assert A not in os.environ


def test_what_ray_changes_is_put_back(monkeypatch):
    monkeypatch.setenv("PYTHONBREAKPOINT", "")
    monkeypatch.delenv("PYTHONBREAKPOINT")
    before = signal.getsignal(signal.SIGTERM)
    drawn = random.getstate()
    with process_restored():
        random.random()
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.environ["PYTHONBREAKPOINT"] = "ray.util.rpdb._driver_set_trace"
    assert signal.getsignal(signal.SIGTERM) is before
    assert "PYTHONBREAKPOINT" not in os.environ
    assert random.getstate() == drawn
