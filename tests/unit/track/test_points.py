"""MLflow: every point of the log arrives once, with its own time, however often it is sent."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from tracked import add_steps, begin, count, failing, history, written

from metadist import track
from metadist.runs.log import LogReader, LogWriter
from metadist.track import client as client_module
from metadist.track import synchroniser as sync_module
from metadist.track import upload


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_points_arrive_once_with_their_time_and_exact_value(run, uri):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({"world_size": 1, "bits": "verified"}))
    synchroniser = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    for first in range(1, 1500, 300):
        add_steps(writer, first, first + 299)
        time.sleep(0.02)
    wait_for(lambda: count(uri, run_id) == 3000)
    writer.add(1500, {"val/accuracy": 0.1 + 0.2, "val/tiny": 5e-324})
    writer.flush()
    assert synchroniser.finish("finished", 20)
    found = history(uri, run_id)
    assert found == written(run)
    assert found["val/accuracy", 1500][0][1] == 0.1 + 0.2


def test_values_that_are_not_finite_arrive_once(run, uri):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    for step, value in enumerate([math.nan, math.inf, -math.inf, 1.0], 1):
        writer.add(step, {"train/loss": value})
    writer.flush()
    for _ in range(3):
        assert track.Synchroniser(run, uri, run_id).start().finish("finished", 20)
        (run.log / "sent.json").unlink()  # so that everything is sent again
    found = history(uri, run_id)
    values = [found["train/loss", step] for step in (1, 2, 3, 4)]
    assert [len(v) for v in values] == [1, 1, 1, 1]
    assert math.isnan(values[0][0][1])
    assert values[1][0][1] == sys.float_info.max
    assert values[2][0][1] == -sys.float_info.max


def test_an_outage_loses_and_doubles_nothing(run, uri, monkeypatch, caplog):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    with failing(monkeypatch) as broken, caplog.at_level(logging.WARNING):
        synchroniser = track.Synchroniser(run, uri, run_id, interval=0.01).start()
        add_steps(writer, 1, 200)
        wait_for(lambda: count(uri, run_id) >= 400)
        broken.set()
        add_steps(writer, 201, 1100)
        wait_for(lambda: "does not take points" in caplog.text)
        broken.clear()
        add_steps(writer, 1101, 1150)
        assert synchroniser.finish("finished", 20)
    assert history(uri, run_id) == written(run)
    assert caplog.text.count("does not take points") == 1
    assert caplog.text.count("takes points again") == 1


def test_redone_steps_and_a_new_driver_add_nothing(run, uri):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    first = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    add_steps(writer, 1, 800)
    wait_for(lambda: count(uri, run_id) == 1600)
    first.stop()  # as good as killed: nothing is closed
    later = LogWriter(run.claim({}))
    track.reopen_run(uri, run_id, track.run_params(run.recipe()), {"world_size": "3"})
    second = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    add_steps(later, 500, 900)
    assert second.finish("finished", 20)
    found = history(uri, run_id)
    assert found == written(run)
    assert len(found) == 1800
    assert client_module.connect(uri).get_run(run_id).data.tags["world_size"] == "3"


@pytest.mark.slow
def test_a_new_driver_does_not_send_all_again(run, uri, monkeypatch):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({})), 1, 1000)
    assert track.Synchroniser(run, uri, run_id).start().finish("finished", 30)
    assert json.loads((run.log / "sent.json").read_text()) == {"run_id": run_id, "sent": 2000}
    sent: list[int] = []

    def counting(client: Any, run_id: str, points: Any) -> None:
        sent.append(len(points))
        upload.send_points(client, run_id, points)

    monkeypatch.setattr(sync_module, "send_points", counting)
    add_steps(LogWriter(run.claim({})), 950, 1010)
    assert track.Synchroniser(run, uri, run_id).start().finish("finished", 30)
    assert sum(sent) == 1000 + 20
    assert history(uri, run_id) == written(run)


@pytest.mark.parametrize("note", ["", "[]", '{"run_id": "other", "sent": 99999}', '{"sent": 4}'])
def test_a_note_that_is_no_note_costs_only_time(run, uri, note):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({})), 1, 20)
    (run.log / "sent.json").write_text(note)
    assert track.Synchroniser(run, uri, run_id).start().finish("finished", 20)
    assert history(uri, run_id) == written(run)


def test_a_log_that_cannot_be_read_for_a_moment_is_read_again(run, uri, monkeypatch):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    add_steps(writer, 1, 50)
    monkeypatch.setattr(sync_module, "BACKOFF", (0.01, 0.05))
    honest, calls = LogReader._news, 0

    def unsteady(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        points = honest(self, *args)
        if calls in (1, 3):
            raise OSError("stale file handle")
        return points

    monkeypatch.setattr(LogReader, "_news", unsteady)
    synchroniser = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    add_steps(writer, 51, 90)
    assert synchroniser.finish("finished", 20)
    monkeypatch.undo()
    assert history(uri, run_id) == written(run)


def test_figures_that_a_run_has_once_are_bars_and_the_latest_counts(run, uri):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    for step, value in ((100, 0.5), (200, 0.7)):  # given more steps, a run is tested again
        writer.add(step, {"test/accuracy": value, "val/accuracy": value})
        writer.flush()
        time.sleep(0.002)
        for _ in range(2):
            assert track.Synchroniser(run, uri, run_id).start().finish("finished", 20)
    found = history(uri, run_id)
    assert {key for key in found if key[0] == "test/accuracy"} == {("test/accuracy", 0)}
    assert [value for _, value in found["test/accuracy", 0]] == [0.5, 0.7]
    assert {step for metric, step in found if metric == "val/accuracy"} == {100, 200}
    data = client_module.connect(uri).get_run(run_id).data
    assert data.metrics["test/accuracy"] == 0.7
