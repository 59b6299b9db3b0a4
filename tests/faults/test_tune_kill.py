"""Whatever of a search is killed, what is finished is not done again and the rest is the same."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from killing import kill_tree
from searching import SMALL, SearchCommand, over, trial_processes

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]
RANDOM = ("sinusoid-lr", "--searcher=random", "--trials=5", "--name=s", "--offline", *SMALL)
AGAIN = ("--resume=s", "--offline", "--seeds=1", "--no-default", "--episodes=8", "--concurrent=2")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[SearchCommand]:
    """A command whose processes end with the test."""
    made = SearchCommand(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            kill_tree(process)


def _points(command: SearchCommand) -> list[dict[str, Any]]:
    return [trial.point for trial in command.search.trials()]


def _attempts(command: SearchCommand, number: int) -> int:
    return command.search.run(f"trial-{number:04d}").latest_attempt()


def test_a_killed_search_goes_on_with_the_same_trials(command: SearchCommand) -> None:
    first = command.start(*RANDOM)
    command.wait_for(lambda search: over(search) >= 2)
    kill_tree(first)
    done = {t.number: t for t in command.search.trials() if t.over}
    assert 2 <= len(done) < 5
    result = command.result(command.start(*AGAIN))
    assert sum(result["trials"].values()) == 5
    for number, trial in done.items():
        assert command.search.trials()[number - 1] == trial
        assert _attempts(command, number) == 1, "a finished trial was trained again"
    # The points of a random search are a function of its seed and their numbers.
    from metadist.search.plan import plan_of

    assert _points(command) == plan_of(command.search.info()["plan"]).points
    assert command.search.info()["status"] == "finished"
    assert (command.search.path / "best.toml").is_file()
    again = command.result(command.start(*AGAIN))
    assert again == result


@pytest.mark.long
def test_a_trial_whose_process_is_killed_goes_on(command: SearchCommand) -> None:
    process = command.start(*RANDOM)
    command.wait_for(lambda search: over(search) >= 1)
    victims = trial_processes(process)
    assert victims
    victims[0].send_signal(signal.SIGKILL)
    result = command.result(process)
    assert sum(result["trials"].values()) == 5
    assert "failed" not in result["trials"]


@pytest.mark.parametrize(
    "asked", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_an_interrupt_leaves_nothing_running(command: SearchCommand, asked: signal.Signals) -> None:
    process = command.start(*RANDOM)
    command.wait_for(lambda search: over(search) >= 1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(asked)
    process.wait(120)
    assert process.returncode != 0
    assert "--resume s" in command.said(process)
    assert command.search.info()["status"] == "interrupted"
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    result = command.result(command.start(*AGAIN))
    assert sum(result["trials"].values()) == 5
