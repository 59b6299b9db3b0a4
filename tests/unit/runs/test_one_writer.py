"""Whoever has lost the right to write to a run writes nothing: no file, no status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from run_place import Boom, Place, files

import metadist
from metadist.driver import ending, resolve_run
from metadist.driver import run as driver
from metadist.driver.request import RunRequest
from metadist.errors import RunError, SupersededError
from metadist.evaluation import run_evaluator
from metadist.recipe.schema import Recipe
from metadist.runs.log import LogWriter, series
from metadist.runs.run_dir import RunDir

FACTS = {"numerics": {}, "world_size": 1, "from_step": 0, "bits": ""}


def evaluate(place: Place, **asked: Any) -> Any:
    return metadist.evaluate("a", runs_dir=place.runs, data_dir=place.runs.parent / "data", **asked)


def first(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, do: Callable[[], Any], *, after: bool
) -> None:
    """Let something happen once, before or after the first call of a function."""
    original = getattr(where, name)

    def called(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(where, name, original)
        if not after:
            do()
        result = original(*arguments, **more)
        if after:
            do()
        return result

    monkeypatch.setattr(where, name, called)


def record(run: RunDir) -> dict[str, Any]:
    info = run.info()
    return {key: info.get(key) for key in ("status", "result", "closed")}


# --- evaluation of a run that has ended -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{}, {"episodes": 3}, {"steps": 1}], ids=str)
def test_a_run_continued_meanwhile_keeps_its_own_figures(
    place: Place, monkeypatch: pytest.MonkeyPatch, asked: dict[str, int]
) -> None:
    place.train(name="a")
    run, left = place.run("a"), {}

    def resume() -> None:
        place.train("outer.steps=20", resume="a")
        left.update(files(run))

    first(monkeypatch, run_evaluator, "evaluate", resume, after=False)
    with pytest.raises(RunError, match=r"continued while it was evaluated .*evaluate it again"):
        evaluate(place, **asked)
    assert files(run) == left
    evaluate(place)
    assert files(run) == left


@pytest.mark.slow
def test_a_run_given_more_steps_is_continued_before_an_attempt_is_claimed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.train(name="a")
    run = place.run("a")
    before = files(run)
    first(
        monkeypatch,
        run_evaluator,
        "evaluate",
        lambda: run.update(recipe_hash="0" * 64),
        after=False,
    )
    with pytest.raises(RunError, match="recipe 000000000000 now"):
        evaluate(place, episodes=3)
    assert files(run) == before


def test_a_run_continued_while_its_state_is_loaded_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an ensemble would have this recipe's hash beside another one's checkpoint."""
    from metadist.runs import checkpoints

    place.train(name="a")
    first(monkeypatch, checkpoints, "newest", lambda: place.run("a").claim(FACTS), after=False)
    with pytest.raises(RunError, match="continued while it was evaluated"):
        metadist.evaluate(["a"], runs_dir=place.runs, data_dir=place.runs.parent / "data")


# --- attempts -------------------------------------------------------------------------------------


def test_a_superseded_attempt_leaves_nothing_of_its_outcome(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place.run("a")
    first(monkeypatch, run_evaluator, "diagnose", lambda: run.claim(FACTS), after=False)
    with pytest.raises(SupersededError, match="attempt 2 has taken over"):
        place.train(name="a")
    assert not run.evaluation.exists()


def test_a_superseded_attempt_does_not_write_the_log_as_a_table(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, flush = place.run("a"), LogWriter.flush

    def flushed(self: LogWriter) -> None:
        flush(self)
        if "test/mse" in series(run):
            run.claim(FACTS)

    monkeypatch.setattr(LogWriter, "flush", flushed)
    with pytest.raises(SupersededError, match="attempt 2 has taken over"):
        place.train(name="a")
    assert not (run.log / "metrics.parquet").exists()


# --- drivers --------------------------------------------------------------------------------------


def test_a_superseded_driver_does_not_call_the_run_finished(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place.run("a")
    # The successor's workers have not claimed an attempt yet.
    first(monkeypatch, driver, "_execute", lambda: run.drive(status="running"), after=True)
    with pytest.raises(SupersededError, match="another driver has taken over"):
        place.train(name="a")
    assert record(run) == {"status": "running", "result": None, "closed": None}


def test_a_successors_result_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run, later = place.run("a"), []

    def succeed() -> None:
        later.append(place.train(name="a", resume="auto"))

    first(monkeypatch, driver, "_execute", succeed, after=True)
    with pytest.raises(SupersededError):
        place.train(name="a")
    assert later[0]["restarts"] == 1
    assert record(run) == {"status": "finished", "result": later[0], "closed": True}


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_a_superseded_driver_does_not_call_the_run_failed(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    run = place.run("a")

    def die() -> None:
        run.drive(status="running")
        raise error

    first(monkeypatch, driver, "_execute", die, after=False)
    said: list[str] = []
    with pytest.raises(error):
        place.train(name="a", announce=said.append)
    assert record(run)["status"] == "running"
    assert not any("ended early" in line for line in said)


def test_a_superseded_driver_does_not_close_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending the last points may take minutes, in which the run may be given more steps."""
    run = place.run("a")

    def take_over() -> None:
        run.drive(status="running", closed=False)

    first(monkeypatch, ending, "write_report", take_over, after=True)
    result = place.train(name="a")
    assert record(run) == {"status": "running", "result": result, "closed": False}


def test_a_run_given_more_steps_is_not_finished_by_the_driver_of_fewer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place.run("a")

    def extend() -> None:
        fields = run.recipe().model_dump()
        fields["outer"]["steps"] = 20
        longer = Recipe.model_validate(fields)
        request = RunRequest(longer, resume="a", runs_dir=place.runs)
        resolve_run.find_run(request, longer, run.info())

    first(monkeypatch, driver, "_execute", extend, after=True)
    with pytest.raises(SupersededError):
        place.train(name="a")
    assert record(run) == {"status": "created", "result": None, "closed": False}


def test_every_start_has_a_key_of_its_own(place: Place) -> None:
    keys: list[str] = []
    for steps in (12, 20):
        place.train(f"outer.steps={steps}", name="a", resume="a" if keys else None)
        keys.append(place.run("a").info()["driver"])
    assert len({*keys, None}) == 3
