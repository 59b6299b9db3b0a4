"""Runs as a user starts, repeats, continues and extends them, in one process on a small problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import metadist
from metadist.engine import checkpoint
from metadist.engine.rundir import RunDir
from metadist.engine.runlog import LogReader, LogWriter, Point, series
from metadist.engine.trainer import Trainer
from metadist.errors import NonFiniteError, RecipeError, RunError, SupersededError

SETTINGS = (
    "outer.steps=12",
    "outer.batch=4",
    "engine.mode=loop",
    "engine.chunk=1",
    "eval.every=5",
    "eval.episodes=6",
    "eval.val_episodes=4",
    "eval.extra_queries=20",
    "eval.steps=2",
    "run.checkpoint_every=4",
    "run.keep=2",
)


class Place:
    """A directory with runs of a small sinusoid recipe."""

    def __init__(self, directory: Path) -> None:
        self.runs = directory / "runs"

    def train(self, *more: str, recipe: str = "sinusoid-10shot-maml", **options: Any) -> Any:
        """Train with the settings above and more."""
        return metadist.train(
            recipe,
            overrides=[*SETTINGS, *more],
            runs_dir=self.runs,
            data_dir=self.runs.parent / "data",
            offline=True,
            **options,
        )

    def run(self, name: str) -> RunDir:
        """A run by name."""
        return RunDir(self.runs / name)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place."""
    return Place(tmp_path)


class Boom(Exception):
    """Stands for a process that dies."""


def die_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let training die before this outer step (counted from 0)."""
    original = Trainer.step

    def dying(self: Trainer, *arguments: Any) -> Any:
        if self.step_done == step:
            raise Boom
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "step", dying)


def died(place: Place, monkeypatch: pytest.MonkeyPatch, step: int, *more: str, name: str) -> None:
    """A run that died before ``step``."""
    with monkeypatch.context() as patch:
        die_before(patch, step)
        with pytest.raises(Boom):
            place.train(*more, name=name)


def losses(run: RunDir) -> list[tuple[int, float]]:
    """(step, loss) in the log."""
    return [(p.step, p.value) for p in series(run)["train/loss"]]


def files(run: RunDir) -> dict[str, bytes]:
    """Everything under ``evaluation/``."""
    return {p.name: p.read_bytes() for p in sorted(run.evaluation.iterdir())}


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


@pytest.mark.parametrize("norm_and_more", [(), ("engine.mode=vmap", "engine.chunk=3")])
@pytest.mark.parametrize("step", [0, 3, 7, 11])
def test_resumed_is_uninterrupted(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: int, norm_and_more: tuple[str, ...]
) -> None:
    expected = place.train(*norm_and_more, name="whole")
    died(place, monkeypatch, step, *norm_and_more, name="broken")
    assert place.run("broken").info()["status"] == "failed"
    result = place.train(*norm_and_more, name="broken", resume="auto")
    assert result["params_sha256"] == expected["params_sha256"]
    assert losses(place.run("broken")) == losses(place.run("whole"))
    assert files(place.run("broken")) == files(place.run("whole"))
    assert result["restarts"] == 1


def test_name_in_use_is_refused(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RunError, match=r"exists already.*--resume a"):
        place.train(name="a")


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".a", "a b", "x" * 200])
def test_names_that_cannot_be_directories(place: Place, name: str) -> None:
    with pytest.raises(RunError, match="--name"):
        place.train(name=name)
    assert not place.runs.exists() or not any(place.runs.iterdir())


def test_finished_run_returns_its_result(place: Place) -> None:
    result = place.train(name="a")
    assert place.train(name="a", resume="auto") == result
    assert place.train(resume="auto") == result
    assert place.run("a").latest_attempt() == 1


def test_auto_prefers_unfinished_runs_of_the_same_recipe(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    died(place, monkeypatch, 6, name="unfinished")
    place.train(name="finished")
    place.train("run.seed=1", name="other")
    assert place.train(resume="auto")["run"] == "unfinished"


def test_auto_starts_a_run_where_there_is_none(place: Place) -> None:
    assert place.train(resume="auto", name="new")["run"] == "new"
    assert place.train("run.seed=1", resume="auto")["run"].startswith("sinusoid-10shot-maml-")


def test_auto_refuses_another_recipe_of_that_name(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RunError, match=r"inner.lr: 0.01 -> 0.02"):
        place.train("inner.lr=0.02", name="a", resume="auto")
    with pytest.raises(RunError, match=r"only outer.steps may grow"):
        place.train("outer.steps=20", name="a", resume="auto")


def test_unfinished_making_of_a_run_is_nobodys_run(place: Place) -> None:
    place.train(name="a")
    run = place.run("a")
    run.update(status="created", result=None)
    partial = place.runs / ".partial-a-xyz"
    run.path.rename(partial)
    result = place.train(resume="auto")
    assert not result["run"].startswith(".")
    with pytest.raises(RunError, match="no run"):
        place.train(resume=".partial-a-xyz")


def test_killed_while_adding_steps(place: Place) -> None:
    expected = place.train("outer.steps=20", name="long")
    place.train(name="short")
    run = place.run("short")
    longer = run.recipe().model_copy(
        update={"outer": run.recipe().outer.model_copy(update={"steps": 20})}
    )
    # Killed between run.json and recipe.toml.
    run.update(recipe_hash=longer.hash, status="created", result=None, closed=False)
    result = place.train("outer.steps=20", resume="short")
    assert result["params_sha256"] == expected["params_sha256"]


def test_checkpoint_of_another_run_is_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 6, "run.seed=1", name="other")
    died(place, monkeypatch, 6, name="a")
    other = checkpoint.directory(place.run("other"), 5)
    target = checkpoint.directory(place.run("a"), 5)
    for file in other.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    assert place.train(name="a", resume="auto")["params_sha256"] == expected["params_sha256"]


def test_driver_killed_after_the_result_is_closed_on_resume(place: Place) -> None:
    result = place.train(name="a")
    run = place.run("a")
    assert run.info()["closed"] is True
    run.update(closed=False)
    run.report.unlink()
    assert place.train(name="a", resume="auto") == result
    assert run.report.is_file()
    assert run.info()["closed"] is True


def test_default_names_do_not_collide(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from metadist.launch import start

    original: Any = start.find_run

    def same_second(*arguments: Any) -> Any:
        changed = [*arguments]
        changed[4] = "same"
        return original(*changed)

    monkeypatch.setattr("metadist.launch.drive.find_run", same_second)
    assert [place.train()["run"] for _ in range(3)] == ["same", "same-2", "same-3"]


def test_evaluate_refuses_what_the_record_does_not_say(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"runs_dir": place.runs, "data_dir": place.runs.parent / "data"}
    place.train(name="a")
    before = files(place.run("a"))
    (checkpoint.directory(place.run("a"), 12) / "state.safetensors").write_bytes(b"")
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

    from metadist.engine.numerics import numerics, numerics_digest

    plain = numerics_digest(numerics(torch.device("cpu")))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert numerics_digest(numerics(torch.device("cpu"))) != plain
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    assert numerics_digest(numerics(torch.device("cpu"))) == plain


def test_unknown_run_is_named(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RunError, match=r"no run 'b'.*there are: a"):
        place.train(resume="b")


def test_more_steps_equal_a_longer_run(place: Place) -> None:
    expected = place.train("outer.steps=20", name="long")
    place.train(name="short")
    result = place.train("outer.steps=20", resume="short")
    assert result["params_sha256"] == expected["params_sha256"]
    assert files(place.run("short")) == files(place.run("long"))
    assert losses(place.run("short")) == losses(place.run("long"))


def test_steps_do_not_shrink_and_schedules_are_kept(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RecipeError, match="at least that many"):
        place.train("outer.steps=5", resume="a")
    place.train("outer.schedule=cosine", name="b")
    with pytest.raises(RecipeError, match="cosine schedule"):
        place.train("outer.schedule=cosine", "outer.steps=20", resume="b")


def test_cadence_and_storage_may_change(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 6, name="a")
    result = place.train("run.checkpoint_every=1", resume="a")
    assert result["params_sha256"] == expected["params_sha256"]


def test_altered_recipe_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    died(place, monkeypatch, 6, name="a")
    path = place.run("a").path / "recipe.toml"
    path.write_text(path.read_text().replace("lr = 0.01", "lr = 0.02"))
    with pytest.raises(RunError, match="one of them was altered"):
        place.train(name="a", resume="auto")


@pytest.mark.parametrize("file", ["state.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damaged_checkpoint_is_named_and_passed_over(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    file: str,
    damage: str,
) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 10, name="a")
    run = place.run("a")
    assert checkpoint.steps(run)[-1] == 10
    path = checkpoint.directory(run, 10) / file
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        kept = {"flip": len(data), "cut": len(data) - 7, "empty": 0}[damage]
        path.write_bytes(data[:kept])
    result = place.train(name="a", resume="auto")
    assert str(path) in caplog.text
    assert "damaged checkpoint" in caplog.text
    assert run.attempt_facts(2)["from_step"] == 8
    assert result["params_sha256"] == expected["params_sha256"]


def test_every_checkpoint_damaged_starts_from_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 10, name="a")
    for step in checkpoint.steps(place.run("a")):
        (checkpoint.directory(place.run("a"), step) / "checkpoint.json").write_text("{}")
    result = place.train(name="a", resume="auto")
    assert result["params_sha256"] == expected["params_sha256"]


def test_full_disk_leaves_the_last_checkpoint(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place.train(name="whole")
    original = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "step-00000008" in str(self):
            original(self, data[: len(data) // 2])
            raise OSError(28, "No space left on device", str(self))
        return original(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            place.train(name="a")
    run = place.run("a")
    assert checkpoint.steps(run) == [4, 5]
    assert [p.name for p in run.checkpoints.iterdir() if p.name.startswith(".")] == []
    result = place.train(name="a", resume="auto")
    assert run.attempt_facts(2)["from_step"] == 5
    assert result["params_sha256"] == expected["params_sha256"]


def test_kept_checkpoints(place: Place) -> None:
    result = place.train(name="a")
    steps = checkpoint.steps(place.run("a"))
    assert steps[-2:] == [10, 12]
    assert len(steps) <= 3
    assert result["best_step"] in {*steps, 12}


def test_checkpoints_hold_no_pickle(place: Place) -> None:
    place.train(name="a")
    for path in place.run("a").checkpoints.rglob("*"):
        if path.is_file():
            assert path.suffix in {".safetensors", ".json"}
            assert not path.read_bytes().startswith((b"\x80", b"PK"))


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
    assert checkpoint.steps(run)[-1] <= 5
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
    assert checkpoint.steps(run) == [0]
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


def test_other_data_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    died(place, monkeypatch, 6, name="a")
    place.run("a").update(dataset={"digest": "0" * 64})
    with pytest.raises(metadist.MetadistError, match="dataset digest"):
        place.train(name="a", resume="auto")


def test_auto_does_not_take_a_run_on_other_data(place: Place) -> None:
    place.train(name="a")
    place.run("a").update(dataset={"digest": "0" * 64})
    assert place.train(resume="auto")["run"] != "a"
    for resume in ("auto", "a"):
        with pytest.raises(RunError, match="dataset digest"):
            place.train(name="a", resume=resume)


def test_good_checkpoints_survive_behind_a_damaged_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = "run.checkpoint_every=1"
    died(place, monkeypatch, 11, "run.keep=4", every, name="a")
    run = place.run("a")
    assert {8, 9, 10, 11} <= set(checkpoint.steps(run))
    for step in (10, 11):
        (checkpoint.directory(run, step) / "state.safetensors").write_bytes(b"")
    with monkeypatch.context() as patch:
        die_before(patch, 10)
        with pytest.raises(Boom):
            place.train("run.keep=2", every, name="a", resume="auto")
    # The damaged one of step 11 must not take the place of a good one.
    assert checkpoint.steps(run)[-2:] == [9, 10]
    assert (run.checkpoints / "damaged-step-00000011-0002").is_dir()


def test_evaluation_that_cannot_be_drawn_is_refused_before_training(
    place: Place, tmp_path: Path
) -> None:
    from data_pipeline.errors import DataError

    for more in ("eval.extra_queries=20", "eval.queries=25"):
        with pytest.raises(DataError, match=r"need .* images per class"):
            metadist.train(
                "strokes-5w1s-maml",
                name="a",
                overrides=[more],
                data_dir=tmp_path / "strokes",
                runs_dir=place.runs,
                offline=True,
            )
    assert not (place.runs / "a").exists()


def test_a_loss_that_has_no_meaning_is_refused(place: Place) -> None:
    with pytest.raises(RecipeError, match=r"inner.loss: regression has no ways"):
        place.train("inner.loss=sum_over_ways", name="a")
    assert not (place.runs / "a").exists()


def test_shards_must_be_there_and_fit(place: Place) -> None:
    with pytest.raises(RecipeError, match="metadist data shard"):
        place.train("data.storage=shards", name="a")
    assert not (place.runs / "a").exists()
