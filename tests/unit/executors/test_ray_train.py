"""How the driver of a run reaches the workers of a group."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from metadist.executors import ray_train
from metadist.executors.control.channels import ControlActor, ControlFile
from metadist.executors.control.trial_mailbox import TrialMailbox
from metadist.executors.job import Job
from metadist.executors.world_size import WorldSize
from metadist.process.announce import quiet


@pytest.mark.parametrize("judged", [False, True])
def test_workers_on_a_cluster_are_reached_whoever_judges_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: bool
) -> None:
    """A trial of a search loses no more than other runs when a node is about to go."""
    actor, sent = ControlActor(None), []
    monkeypatch.setattr(ControlActor, "start", lambda: actor)
    monkeypatch.setattr(ControlActor, "clear", lambda _: None)
    monkeypatch.setattr(ray_train, "group_size", lambda *_, **__: (2, {"CPU": 1.0}))
    controls = (TrialMailbox(tmp_path),) if judged else ()
    job = Job(tmp_path, tmp_path, WorldSize(2, 2), "head:6379", controls=controls)

    def run_group(job: Job, workers: int, resources: Any) -> dict[str, Any]:
        sent.append(job)
        return {"run": "a"}

    monkeypatch.setattr(ray_train, "run_group", run_group)
    channel = ray_train._channel(job)
    signals: Any = type("Signals", (), {"event": threading.Event()})
    assert ray_train._Groups(job, channel, signals, quiet, 1.0).train() == {"run": "a"}
    assert sent[0].controls == (*controls, actor)


def test_workers_of_this_machine_look_for_a_file_unless_a_search_ends_them(tmp_path: Path) -> None:
    size = WorldSize(2, 2)
    assert ray_train._channel(Job(tmp_path, tmp_path, size)) == ControlFile(tmp_path / ".leave")
    assert (
        ray_train._channel(Job(tmp_path, tmp_path, size, controls=(TrialMailbox(tmp_path),)))
        is None
    )
