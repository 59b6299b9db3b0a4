"""The progress line: what it says, when it is drawn, and that it never stops a run."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from terminal import Terminal

from metadist.compute.resolve import resolve
from metadist.compute.setup import Setup
from metadist.driver.preflight import facts_of
from metadist.driver.progress import Progress, ProgressFollower, duration
from metadist.objectives import MSE, Metric
from metadist.recipe.schema import load_recipe
from metadist.reproduce.display import _described
from metadist.runs.listing import create_run
from metadist.runs.log import LogWriter, Point
from metadist.runs.run_dir import RunDir


def step_points(first: int, last: int, *, start: int = 1_000_000, each: int = 100) -> list[Point]:
    """Steps ``first`` to ``last``, one each ``each`` milliseconds."""
    points = []
    for step in range(first, last + 1):
        moment = start + each * step
        points.append(Point("train/loss", step, moment, 2.0 / step))
        points.append(Point("train/accuracy", step, moment, 0.5))
    return points


def test_the_line_says_everything():
    progress = Progress(1000, since=0)
    progress.feed(step_points(1, 200))
    progress.feed(
        [
            Point("val/accuracy", 100, 1_010_000, 0.712),
            Point("perf/tasks_per_second", 200, 1_020_000, 1234.6),
            Point("perf/data_wait", 200, 1_020_000, 0.023),
            Point("perf/engine", 200, 1_020_000, 0.95),
        ]
    )
    line = progress.line()
    assert line.startswith("step   200/1,000  20%")
    for part in ("accuracy 50.0%", "val 71.2% @100", "1,235 tasks/s", "data wait 2%", "ETA 1:20"):
        assert part in line, part


def test_loss_is_a_mean_of_the_last_finite_values():
    progress = Progress(100, since=0)
    values = [9.0] * 10 + [2.0] * 25 + [4.0] * 24 + [math.nan]
    progress.feed([Point("train/loss", i + 1, i, v) for i, v in enumerate(values)])
    assert "loss 2.98" in progress.line()
    bad = Progress(100, since=0)
    bad.feed([Point("train/loss", 1, 1, math.inf)])
    assert "loss nan" in bad.line()


def test_regression_shows_its_error():
    progress = Progress(100, since=0)
    progress.feed([Point("val/mse", 50, 1, 0.4567891)])
    assert "val mse 0.4568 @50" in progress.line()


def test_points_of_an_earlier_attempt_do_not_tell_the_speed():
    progress = Progress(1000, since=2_000)
    progress.feed(step_points(1, 300, start=0, each=1))
    progress.feed([Point("perf/tasks_per_second", 300, 300, 99_999.0)])
    assert "ETA" not in progress.line()
    assert "tasks/s" not in progress.line()
    progress.feed(step_points(301, 400, start=2_000_000, each=1000))
    assert "ETA 10:00" in progress.line()


def test_no_eta_before_two_steps_or_at_the_end():
    progress = Progress(10, since=0)
    progress.feed(step_points(1, 1))
    assert "ETA" not in progress.line()
    progress.feed(step_points(2, 10))
    assert "ETA" not in progress.line()
    assert "100%" in progress.line()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return create_run(tmp_path, "demo", load_recipe("strokes-5w1s-maml"), {})


def test_a_terminal_has_a_bar_and_one_line_that_is_kept_up_to_date(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    stream, writer = Terminal(), LogWriter(run.claim({}))
    with ProgressFollower(run, Progress(100), stream=stream, interval=0.01) as follower:
        for step in range(1, 10):
            writer.add(step, {"train/loss": 1.0, "train/accuracy": 0.25})
        writer.flush()
        while follower.progress.step < 9:
            time.sleep(0.01)
    row, below = stream.screen
    assert row.startswith("\u2501")
    assert row.endswith(" step   9/100   9% · lo…")
    assert len(row) <= 40
    assert below == ""


def test_a_run_that_never_began_leaves_a_terminal_alone(run, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with ProgressFollower(run, Progress(100), stream=stream, interval=0.01):
        time.sleep(0.05)
    assert stream.getvalue() == ""


def test_elsewhere_there_are_plain_lines_now_and_then(run):
    stream = io.StringIO()
    progress = Progress(100, since=0)
    follower = ProgressFollower(run, progress, stream=stream)

    def lines() -> int:
        assert "\x1b" not in stream.getvalue()
        return stream.getvalue().count("\n")

    follower.show(now=0)
    assert lines() == 0
    progress.feed(step_points(1, 1))
    follower.show(now=1)
    assert lines() == 1
    progress.feed(step_points(2, 2))
    follower.show(now=5)
    assert lines() == 1
    follower.show(now=12)
    assert lines() == 2
    progress.feed([Point("val/accuracy", 2, 10**12, 0.5)])
    follower.show(now=13)
    assert lines() == 3
    progress.feed([Point("test/accuracy", 2, 10**12, 0.5)])
    follower.show(last=True)
    assert lines() == 3
    progress.feed(step_points(3, 3))
    follower.show(last=True)
    assert lines() == 4


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "xterm", "FORCE_COLOR": "1"}])
def test_what_cannot_be_painted_on_gets_plain_lines(run, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if variables["TERM"] == "dumb" else io.StringIO()
    progress = Progress(10, since=0)
    with ProgressFollower(run, progress, stream=stream):
        progress.feed(step_points(1, 1))
    assert stream.getvalue().startswith("step  1/10  10% · loss 2")
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_closed_stream_does_not_stop_a_run(run, kind, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    progress, stream = Progress(10, since=0), kind()
    with ProgressFollower(run, progress, stream=stream) as follower:
        stream.close()
        progress.feed(step_points(1, 3))
        follower.show(now=1)


def test_the_follower_reads_a_log_that_grows(run):
    writer = LogWriter(run.claim({}))
    stream = io.StringIO()
    with ProgressFollower(run, Progress(50), stream=stream, interval=0.01):
        for step in range(1, 51):
            writer.add(step, {"train/loss": 1.0, "train/accuracy": 0.25})
            if step % 10 == 0:
                writer.flush()
                time.sleep(0.02)
    assert stream.getvalue().splitlines()[-1].startswith("step 50/50 100%")


def test_a_line_that_says_nothing_new_is_not_said_again(run):
    stream, progress = io.StringIO(), Progress(10)
    follower = ProgressFollower(run, progress, stream=stream)
    progress.feed(step_points(1, 10))
    follower.show(now=0)
    follower.show(now=100, last=True)
    progress.changed = True  # by what the line does not show
    follower.show(now=200, last=True)
    assert len(stream.getvalue().splitlines()) == 1


def test_a_log_that_cannot_be_read_is_not_the_followers_business(run):
    run.log.mkdir()
    (run.log / "0001.jsonl").mkdir()
    with ProgressFollower(run, Progress(5), stream=io.StringIO(), interval=0.01):
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (247, "4:07"), (3753, "1:02:33"), (184_500, "2 d 03:15")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_line_says_that_an_object_store_is_waited_for():
    progress = Progress(10)
    progress.feed(step_points(1, 3))
    for told in ("object store away for 0:03", "object store away for 0:04", ""):
        progress.wait_for(told)
        # Of what is not painted the beginning and the end are told.
        assert progress.changed == (told != "object store away for 0:04")
        progress.changed = False
        assert f"30% · {told}{' · ' if told else ''}loss" in progress.line()


def test_a_strangers_metric_is_told_as_it_is():
    hits = Metric("hits", "hits among five", higher_is_better=True, percent=True)
    progress = Progress(100, hits, since=0)
    progress.feed([Point("train/kl", 1, 1, 3.0), Point("train/hits", 1, 1, 0.5)])
    progress.feed([Point("val/hits", 50, 2, 0.712), Point("val/mse", 50, 3, 9.0)])
    assert "hits 50.0%" in progress.line()
    assert "val 71.2% @50" in progress.line()
    recorded = Progress(100, describe={"hits": hits}.__getitem__, since=0)
    recorded.feed([Point("train/hits", 1, 1, 0.5), Point("val/hits", 50, 2, 0.712)])
    assert "hits 50.0%" in recorded.line()
    assert "val 71.2% @50" in recorded.line()
    unknown = Progress(100, since=0)
    unknown.feed([Point("val/loss", 50, 1, 1.0), Point("val/failed", 50, 1, 1.0)])
    assert "val" not in unknown.line()
    unknown.feed([Point("val/gain", 50, 2, 12.0), Point("val/mse", 50, 3, 9.0)])
    assert "val gain 12 @50" in unknown.line()


def test_a_run_records_its_strangers_metrics_and_a_tables_line_reads_them(tmp_path):
    hits = Metric("hits", "hits among five", higher_is_better=True, percent=True)
    recipe = resolve(load_recipe("sinusoid-10shot-maml"))
    setup = Setup.open(recipe, tmp_path)
    assert "metrics" not in facts_of(setup)["learner"]  # built in: as before
    own = Mock(wraps=setup.learner, objective=Mock(metrics=(hits, MSE)), needs=frozenset())
    own.configure_mock(derivative_order=1, estimator="exact")
    learner = facts_of(replace(setup, learner=own))["learner"]
    assert learner["metrics"] == {"hits": hits.as_dict()}
    run = create_run(tmp_path, "demo", recipe, {"learner": json.loads(json.dumps(learner))})
    assert _described(run, "hits") == hits
    assert _described(run, "gain") == Metric("gain", "gain", higher_is_better=False)
    assert not _described(RunDir(tmp_path / "gone"), "hits").percent
