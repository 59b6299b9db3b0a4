"""The event file of a run: every point of its log once, by the names that the log has."""

from __future__ import annotations

import logging
import struct
from typing import Any

import pytest
from click.testing import CliRunner
from tensorboardX.proto.event_pb2 import Event
from tracked import add_steps

from metadist.cli.main import main
from metadist.runs.log import LogReader, LogWriter
from metadist.runs.run_dir import RunDir
from metadist.track import tensorboard
from metadist.track.tensorboard import EventFile, write_events


def events(run: RunDir) -> list[Event]:
    """Of the one event file, from its records: length, its checksum, event, its checksum."""
    (path,) = (run.path / "tensorboard").iterdir()
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def points(run: RunDir) -> list[tuple[str, int, int, float]]:
    return [
        (value.tag, event.step, round(1000 * event.wall_time), value.simple_value)
        for event in events(run)
        for value in event.summary.value
    ]


def logged(run: RunDir) -> list[tuple[Any, ...]]:
    return [
        (p.metric, p.step, p.time, pytest.approx(p.value, rel=1e-6)) for p in LogReader(run).poll()
    ]


def test_every_point_is_there_once_after_a_crash_as_well(run: RunDir) -> None:
    with EventFile(run):
        add_steps(LogWriter(run.claim({})), 1, 5)
    assert points(run) == logged(run)
    assert {step for _, step, _, _ in points(run)} == set(range(1, 6))
    # Whoever died after step 3 of a second attempt has written steps that are done again.
    unfinished = EventFile(run)
    add_steps(LogWriter(run.claim({})), 6, 8)
    unfinished.look()
    unfinished.close()
    with EventFile(run):
        add_steps(LogWriter(run.claim({})), 8, 10)
    assert points(run) == logged(run)
    assert len({(tag, step) for tag, step, _, _ in points(run)}) == len(points(run))


def test_values_that_are_not_finite_stay_what_they_are(run: RunDir) -> None:
    writer = LogWriter(run.claim({}))
    writer.add(1, {"train/loss": float("inf"), "val/mse": float("nan")})
    writer.flush()
    write_events(run)
    found = {tag: value for tag, _, _, value in points(run)}
    assert found["train/loss"] == float("inf")
    assert found["val/mse"] != found["val/mse"]


def test_sync_makes_it_anew_and_leaves_other_files_alone(run: RunDir) -> None:
    add_steps(LogWriter(run.claim({})), 1, 3)
    write_events(run)
    (run.path / "tensorboard" / "notes.txt").write_text("mine")
    done = CliRunner().invoke(main, ["sync", str(run.path), "--tensorboard"], prog_name="metadist")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(run.path / "tensorboard")
    assert (run.path / "tensorboard" / "notes.txt").read_text() == "mine"
    (run.path / "tensorboard" / "notes.txt").unlink()
    assert points(run) == logged(run)


def test_a_disk_that_refuses_costs_the_event_file_only(
    run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    (run.path / "tensorboard").write_text("no folder")
    with caplog.at_level(logging.WARNING), EventFile(run) as events:
        add_steps(LogWriter(run.claim({})), 1, 3)
        events.look()
    assert len(caplog.records) == 1
    assert "metadist sync demo --tensorboard" in caplog.text


@pytest.mark.parametrize(("value", "asked"), [("", False), ("0", False), ("1", True)])
def test_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, value: str, asked: bool
) -> None:
    monkeypatch.setenv("METADIST_TENSORBOARD", value)
    assert tensorboard.wanted() is asked
