"""A run that is asked to end, at any moment of it, loses no step and says how it has ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from run_place import Place, files
from tiers import one_in

from metadist.driver import run as driver
from metadist.driver.ending import Ending
from metadist.errors import Terminated
from metadist.evaluation.run_evaluator import RunEvaluator
from metadist.process.signals import StopRequest
from metadist.runs import checkpoints
from metadist.training import run_control
from metadist.training.trainer import Trainer


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked after each step whether to leave."""
    monkeypatch.setattr(run_control, "PACE", 0.0)


def _at_step(monkeypatch: pytest.MonkeyPatch, step: int, do: Callable[[], None]) -> None:
    original = Trainer.step

    def stepping(self: Trainer, *arguments: Any) -> Any:
        if self.step_done == step:
            do()
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "step", stepping)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("number", one_in(3, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))
def test_who_asks_to_end_finds_a_checkpoint_of_the_last_step(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    expected = place.train(name="whole")
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "_taken", -1.0)
        _at_step(patch, 6, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Terminated) as ended:
            place.train(name="a")
    assert ended.value.exit_status == 128 + number
    assert signal.getsignal(number) is before
    assert place.run("a").info()["status"] == "killed"
    assert checkpoints.steps(place.run("a"))[-1] == 7
    assert place.train(name="a", resume="auto")["params_sha256"] == expected["params_sha256"]


def _signal(number: signal.Signals, then: Callable[..., Any]) -> Callable[..., Any]:
    def sending(*arguments: Any, **more: Any) -> Any:
        os.kill(os.getpid(), number)
        return then(*arguments, **more)

    return sending


@pytest.mark.slow
def test_the_last_evaluation_is_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made anew from the checkpoint of the last step."""
    expected = place.train(name="whole")
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "_taken", -1.0)
        slow = _signal(signal.SIGTERM, lambda *_: time.sleep(60))
        patch.setattr(RunEvaluator, "explained_results", slow)
        with pytest.raises(Terminated):
            place.train(name="a")
    run = place.run("a")
    assert run.info()["status"] == "killed"
    assert place.train(name="a", resume="auto")["params_sha256"] == expected["params_sha256"]
    assert files(run) == files(place.run("whole"))


@pytest.mark.parametrize(
    ("room", "where", "status"),
    [(driver, "_start_line", "killed"), (Ending, "_report", "finished")],
)
def test_the_record_tells_the_truth_whenever_the_signal_comes(
    place: Place, monkeypatch: pytest.MonkeyPatch, room: Any, where: str, status: str
) -> None:
    """While the run begins, and while its result is passed on."""
    monkeypatch.setattr(StopRequest, "_taken", -1.0)
    monkeypatch.setattr(room, where, _signal(signal.SIGHUP, getattr(room, where)))
    with pytest.raises(Terminated) as ended:
        place.train(name="a")
    assert ended.value.exit_status == 129
    assert place.run("a").info()["status"] == status
    assert (place.run("a").path / "report.html").is_file()
