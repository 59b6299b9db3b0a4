"""A run's record: its result, its log, what was not finite, and what may be evaluated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from run_place import Place, files, losses

import metadist
from metadist.errors import NonFiniteError, RunError, SupersededError
from metadist.runs import checkpoints
from metadist.runs.log import LogReader, LogWriter, Point, series
from metadist.runs.run_dir import RunDir
from metadist.training.trainer import Trainer


def test_result_and_directory(place: Place) -> None:
    result = place.train(name="a")
    assert set(result) == {
        "run", "steps", "params_sha256", "mse", "ci95", "mse_20q", "best_step", "episodes",
        "failed", "tasks_per_second", "data_wait", "restarts",
    }  # fmt: skip
    run = place.run("a")
    assert run.info()["status"] == "finished"
    assert run.info()["result"] == result
    assert run.recipe().hash == run.info()["recipe_hash"]
    assert [step for step, _ in losses(run)] == list(range(1, 13))
    assert {p.step for p in series(run)["val/mse"]} == {5, 10, 12}
    summary = json.loads((run.evaluation / "test-10q.json").read_text())
    assert summary["checkpoint"]["step"] == result["best_step"]
    assert summary["by_step"][1]["mean"] == result["mse"]
    assert run.report.is_file()
    # Evaluating again gives the same bytes.
    before = files(run)
    again = metadist.evaluate("a", runs_dir=place.runs, data_dir=place.runs.parent / "data")
    assert files(run) == before
    assert again["mse"] == result["mse"]


def test_evaluate_refuses_what_the_record_does_not_say(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"runs_dir": place.runs, "data_dir": place.runs.parent / "data"}
    place.train(name="a")
    before = files(place.run("a"))
    (checkpoints.directory(place.run("a"), 12) / "state.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="last checkpoint is damaged"):
        metadist.evaluate("a", **options)
    place.run("a").update(status="running")
    with pytest.raises(RunError, match="still running"):
        metadist.evaluate("a", **options)
    path = place.run("a").path / "recipe.toml"
    path.write_text(path.read_text().replace("seed = 0", "seed = 5"))
    with pytest.raises(RunError, match=r"not the recipe"):
        metadist.evaluate("a", **options)
    assert files(place.run("a")) == before


def test_kernel_settings_are_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from metadist.compute.determinism import numerics, numerics_digest

    plain = numerics_digest(numerics(torch.device("cpu")))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert numerics_digest(numerics(torch.device("cpu"))) != plain
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert numerics_digest(numerics(torch.device("cpu"))) == plain


def test_later_attempt_takes_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run_path = place.runs / "a"
    original = Trainer.step

    def overtaken(self: Trainer, *arguments: Any) -> Any:
        if self.step_done == 6 and RunDir(run_path).latest_attempt() == 1:
            RunDir(run_path).claim({"numerics": {}, "world_size": 1, "from_step": 5, "bits": ""})
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", overtaken)
        with pytest.raises(SupersededError, match="attempt 2 has taken over"):
            place.train(name="a")
    run = RunDir(run_path)
    assert checkpoints.steps(run)[-1] <= 5
    # What the first attempt had logged before counts, what it writes later does not.
    sealed = run.attempt_facts(2)["sealed"]["0001.jsonl"]
    with (run.log / "0001.jsonl").open("a") as handle:
        handle.write('{"step": 99, "time": 1, "metrics": {"train/loss": 1.0}}\n')
    assert sealed < (run.log / "0001.jsonl").stat().st_size
    assert all(p.step != 99 for p in LogReader(run).poll())


def test_log_reads_each_point_once_while_it_grows(place: Place) -> None:
    place.train(name="a")
    run = place.run("a")
    reader = LogReader(run)
    first = reader.poll()
    assert first
    assert reader.poll() == []
    attempt = run.claim({"numerics": {}, "world_size": 1, "from_step": 12, "bits": ""})
    writer = LogWriter(attempt)
    writer.add(12, {"train/loss": -1.0, "train/new": 2.0})
    writer.flush()
    with (run.log / "0002.jsonl").open("a") as handle:
        handle.write('{"step": 13, "time": 1, "metr')
    news = reader.poll()
    assert [(p.metric, p.step, p.value) for p in news] == [("train/new", 12, 2.0)]
    with (run.log / "0002.jsonl").open("a") as handle:
        handle.write('ics": {"train/loss": 3.0}}\n')
    assert reader.poll() == [Point("train/loss", 13, 1, 3.0)]


def test_nonfinite_stops_and_names_the_episodes(place: Place) -> None:
    with pytest.raises(NonFiniteError, match=r"step \d+: .*episodes \[\d+"):
        place.train("inner.lr=1e30", "inner.steps=2", name="a")
    run = place.run("a")
    # The state before the bad step is kept.
    assert checkpoints.steps(run) == [0]
    assert run.info()["status"] == "failed"


def test_nonfinite_can_be_skipped(place: Place) -> None:
    result = place.train("inner.lr=1e30", "inner.steps=2", "engine.on_nonfinite=skip", name="a")
    # No good task in any step: parameters stay, steps advance, every test episode has failed.
    fresh = place.train("outer.steps=1", "outer.lr=1e-30", name="b")
    assert result["steps"] == 12
    assert result["failed"] == result["episodes"]
    assert result["params_sha256"] == fresh["params_sha256"]


def test_failed_regression_episodes_are_counted_not_averaged(place: Place) -> None:
    place.train("engine.on_nonfinite=skip", "inner.lr=1e30", "inner.steps=2", name="a")
    summary = json.loads((place.run("a").evaluation / "test-10q.json").read_text())
    assert summary["failed_by_step"][0] == 0
    assert summary["by_step"][0]["mean"] is not None
    assert summary["failed_by_step"][2] == 6
    assert summary["by_step"][2]["mean"] is None
