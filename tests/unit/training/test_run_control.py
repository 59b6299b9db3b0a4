"""Workers that are told to save, yield or stop do so after the same step, and nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from run_place import Place, died, files, losses

from metadist.compute.collectives import Solo
from metadist.compute.setup import Setup
from metadist.runs import checkpoints
from metadist.runs.attempts import history
from metadist.runs.log import series
from metadist.training import run_control
from metadist.training.loop import TrainingLoop
from metadist.training.run_control import Command, GroupControl, Progress


@dataclass
class Script:
    """Answers one after another, then nothing more is wanted."""

    answers: list[Command]
    asked: int = 0
    judges = False

    def command(self, progress: Progress) -> Command:
        self.asked += 1
        return self.answers.pop(0) if self.answers else "go"


@dataclass
class Listening(Solo):
    """A group of one that writes down what is sent."""

    sent: list[Any] = field(default_factory=list)

    def broadcast(self, value: Any) -> Any:
        self.sent.append(value)
        return value


@pytest.mark.slow
def test_asked_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("metadist.training.run_control.time.monotonic", lambda: now[0])
    script, group = Script([]), Listening()
    control = GroupControl(script, group)
    for step in range(1, 1001):
        now[0] += 0.01
        control.command(Progress(step, 2000))
    assert 8 <= script.asked <= 15  # ten seconds
    assert len(group.sent) == script.asked


def test_who_judges_is_asked_after_each_validation_and_never_else() -> None:
    class Judge(Script):
        judges = True

    judge, group = Judge(["go", "stop"]), Listening()
    control = GroupControl(judge, group)
    commands = [control.command(Progress(k, 9, 0.5 if k % 3 == 0 else None)) for k in range(1, 10)]
    assert commands == ["go"] * 5 + ["stop"] + ["go"] * 3
    assert judge.asked == len(group.sent) == 3


def test_other_ranks_do_as_they_are_told_and_ask_nobody() -> None:
    class Second(Solo):
        rank, size = 1, 2

        def broadcast(self, value: Any) -> Any:
            assert value is None
            return {"command": "yield", "due": 7}

    script = Script(["save"])
    control = GroupControl(script, Second())
    assert control.command(Progress(1, 9)) == "yield"
    assert control.command(Progress(6, 9)) == "go"
    assert script.asked == 0


def _part(place: Place, name: str, script: Script) -> dict[str, Any]:
    """What a worker does in a run that exists."""
    run = place.run(name)
    setup = Setup.open(run.recipe(), place.runs.parent / "data")
    return TrainingLoop(run, setup, Solo(), torch.device("cpu"), [script]).train()


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked after each step."""
    monkeypatch.setattr(run_control, "PACE", 0.0)


@pytest.mark.usefixtures("every_step")
def test_leaving_and_going_on_is_never_having_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place.train(name="whole")
    from metadist.executors import in_process

    with monkeypatch.context() as patch:
        patch.setattr(in_process, "execute", lambda *_: pytest.fail("not yet"))
        with pytest.raises(BaseException, match="not yet"):
            place.train(name="a")
    assert _part(place, "a", Script(["go", "go", "yield"])) == {"yielded": 3}
    assert checkpoints.steps(place.run("a")) == [3]
    assert _part(place, "a", Script(["yield"])) == {"yielded": 4}
    result = place.train(name="a", resume="auto")
    assert result["params_sha256"] == expected["params_sha256"]
    assert losses(place.run("a")) == losses(place.run("whole"))
    assert files(place.run("a")) == files(place.run("whole"))
    spans = history(place.run("a"))
    assert [(s.first, s.last, s.redone) for s in spans] == [(0, 3, 0), (3, 4, 0), (4, 12, 0)]
    totals = {name: points[-1].value for name, points in series(place.run("a")).items()}
    assert totals["perf/restarts"] == 2
    assert totals["perf/steps_redone"] == 0
    assert totals["perf/seconds_lost"] > 0


@pytest.mark.usefixtures("every_step")
def test_a_checkpoint_that_is_wanted_is_written_between_two_steps(place: Place) -> None:
    place.train(name="a")
    run = place.run("a")
    (run.path / "run.json").write_text(
        (run.path / "run.json").read_text().replace('"status": "finished"', '"status": "failed"')
    )
    for path in (run.path / "checkpoints").iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    seen: list[list[int]] = []

    class Watching(Script):
        def command(self, progress: Progress) -> Command:
            seen.append(checkpoints.steps(run))
            return super().command(progress)

    _part(place, "a", Watching(["go", "save", "go"]))
    assert seen[:3] == [[], [], [2]]


@pytest.mark.usefixtures("every_step")
def test_a_run_that_a_search_judges_hears_its_driver_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Judge(Script):
        judges = True

    class Watching(Script):
        def command(self, progress: Progress) -> Command:
            seen.append((progress.step, checkpoints.steps(run)))
            return super().command(progress)

    died(place, monkeypatch, 0, name="a")
    run = place.run("a")
    seen: list[tuple[int, list[int]]] = []
    judge, driver = Judge(["go", "stop"]), Watching(["go", "save"])
    setup = Setup.open(run.recipe(), place.runs.parent / "data")
    loop = TrainingLoop(run, setup, Solo(), torch.device("cpu"), [judge, driver])
    assert loop.train()["stopped"]
    assert judge.asked == 2
    assert seen[:3] == [(1, []), (2, []), (3, [2])]
    assert max(step for step, _ in seen) < 2 * run.recipe().eval.every  # the judge has stopped it


def test_steps_done_twice_and_seconds_lost_are_counted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    died(place, monkeypatch, 7, name="a")  # the newest checkpoint is that of step 5
    place.train(name="a", resume="auto")
    spans = history(place.run("a"))
    assert [(s.attempt, s.world_size) for s in spans] == [(1, 1), (2, 1)]
    assert spans[1].first == 5
    assert spans[1].redone == spans[0].last - 5
    assert spans[0].lost is None
    assert spans[1].lost is not None


@pytest.mark.usefixtures("every_step")
def test_what_was_profiled_before_leaving_is_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    died(place, monkeypatch, 0, name="a")
    run = place.run("a")
    setup = Setup.open(run.recipe(), place.runs.parent / "data")
    controls = [Script(["go", "go", "go", "go", "yield"])]
    loop = TrainingLoop(run, setup, Solo(), torch.device("cpu"), controls, profiled=True)
    assert loop.train() == {"yielded": 5}
    assert ": 2 outer steps, " in (run.path / "profile" / "breakdown-0.txt").read_text()
