"""What a search shows while it runs: lines, or on a terminal a table."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from small_spaces import SMALL_SPACE
from terminal import Terminal

from metadist.objectives import ACCURACY, MSE
from metadist.search.display import Display, figure
from metadist.search.plan import make_plan
from metadist.search.search_dir import SearchDir, TrialRecord, create_search


@pytest.fixture
def search(tmp_path: Path) -> SearchDir:
    return create_search(tmp_path, "s", {})


POINT = {"inner.lr": 0.125, "outer.lr": 0.0625}


def _run(display: Display, search: SearchDir) -> None:
    with display:
        for number, (score, status) in enumerate(
            [(0.5, "finished"), (0.25, "stopped"), (None, "failed")], 1
        ):
            display.began(number, dict(POINT))
            display.scored(number, 2, math.nan if score is None else score)
            search.record(
                TrialRecord(
                    number,
                    dict(POINT),
                    f"trial-{number:04d}",
                    status,  # type: ignore[arg-type]
                    score=score,
                    steps=2,
                    error="" if score else "no memory",
                )
            )
            display.ended(number)


def test_a_line_for_each_trial_that_has_ended(
    search: SearchDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    stream = io.StringIO()
    _run(Display(make_plan("test", SMALL_SPACE), search, said.append, True, stream), search)
    assert stream.getvalue() == ""
    assert said == [
        "[1/16] trial 1: inner.lr 0.125, outer.lr 0.0625 · mse 0.5 · finished at step 2 · best so "
        "far",
        "[2/16] trial 2: inner.lr 0.125, outer.lr 0.0625 · mse 0.25 · stopped at step 2 · best so "
        "far",
        "[3/16] trial 3: inner.lr 0.125, outer.lr 0.0625 failed: no memory",
    ]


def test_a_table_on_a_terminal(search: SearchDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    said: list[str] = []
    stream = Terminal()
    _run(Display(make_plan("test", SMALL_SPACE), search, said.append, True, stream), search)
    assert said == []
    *table, bar, below = stream.screen
    rows = [line.split() for line in table]
    assert [row[0] for row in rows] == ["trial", "2", "1", "3"]
    assert rows[1][1:4] == ["0.125", "0.0625", "2/6"]
    assert rows[1][-1] == "stopped"
    assert bar.endswith("3 of 16 trials done")
    assert below == ""


def test_a_trial_that_dies_is_said_to(search: SearchDir) -> None:
    said: list[str] = []
    display = Display(make_plan("test", SMALL_SPACE), search, said.append, False, io.StringIO())
    display.began(1, dict(POINT))
    display.died(1)
    assert said == ["trial 1: its process died again and again; it is given up"]


def test_scores_in_words() -> None:
    assert figure(0.9545, ACCURACY) == "95.5 %"
    assert figure(12.345678, MSE) == "mse 12.35"
    assert figure(None, MSE) == figure(math.nan, ACCURACY) == "no score"
