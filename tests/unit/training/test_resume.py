"""A run that died, lost its checkpoints or got more steps ends as one that never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_place import Boom, Place, die_before, died, files, losses
from tiers import one_in

from metadist.errors import RecipeError
from metadist.process.code import code_digest
from metadist.runs import checkpoints


@pytest.mark.parametrize("mode", one_in(2, [(), ("engine.mode=vmap", "engine.chunk=3")]))
@pytest.mark.parametrize("step", one_in(4, [7, 0, 11, 3]))
def test_resumed_is_uninterrupted(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: int, mode: tuple[str, ...]
) -> None:
    settings = (*mode, "outer.lr=0.01")
    expected = place.train(*settings, name="whole")
    assert expected["best_step"] == 10  # which the last step is not to replace
    died(place, monkeypatch, step, *settings, name="broken")
    assert place.run("broken").info()["status"] == "failed"
    result = place.train(*settings, name="broken", resume="auto")
    assert result["params_sha256"] == expected["params_sha256"]
    assert losses(place.run("broken")) == losses(place.run("whole"))
    assert files(place.run("broken")) == files(place.run("whole"))
    assert result["restarts"] == 1


def test_driver_killed_after_the_result_is_closed_on_resume(place: Place) -> None:
    result = place.train(name="a")
    run = place.run("a")
    assert run.info()["closed"] is True
    run.update(closed=False)
    run.report.unlink()
    assert place.train(name="a", resume="auto") == result
    assert run.report.is_file()
    assert run.info()["closed"] is True


@pytest.mark.slow
def test_cadence_and_storage_may_change(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 6, name="a")
    result = place.train("run.checkpoint_every=1", resume="a")
    assert result["params_sha256"] == expected["params_sha256"]


@pytest.mark.slow
def test_other_code_goes_on_and_it_is_said(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 6, name="a")
    assert not caplog.records
    for module in ("training.attempt", "runs.attempts"):
        monkeypatch.setattr(f"metadist.{module}.code_digest", lambda: "0" * 64)
    assert place.train(name="a", resume="auto")["params_sha256"] == expected["params_sha256"]
    (record,) = caplog.records
    assert "computed by other code (attempt 1:" in record.getMessage()
    facts = [place.run("a").attempt_facts(number) for number in (1, 2)]
    assert [f["bits"] for f in facts] == ["verified", "unverified"]
    assert [f["code"] for f in facts] == [code_digest(), "0" * 64]


@pytest.mark.slow
def test_more_steps_equal_a_longer_run(place: Place) -> None:
    expected = place.train("outer.steps=20", name="long")
    place.train(name="short")
    result = place.train("outer.steps=20", resume="short")
    assert result["params_sha256"] == expected["params_sha256"]
    assert files(place.run("short")) == files(place.run("long"))
    assert losses(place.run("short")) == losses(place.run("long"))


@pytest.mark.slow
def test_steps_do_not_shrink_and_schedules_are_kept(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RecipeError, match="at least that many"):
        place.train("outer.steps=5", resume="a")
    place.train("outer.schedule=cosine", name="b")
    with pytest.raises(RecipeError, match="cosine schedule"):
        place.train("outer.schedule=cosine", "outer.steps=20", resume="b")


@pytest.mark.slow
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


# --- checkpoints ----------------------------------------------------------------------------------


def test_kept_checkpoints(place: Place) -> None:
    result = place.train(name="a")
    steps = checkpoints.steps(place.run("a"))
    assert steps[-2:] == [10, 12]
    assert len(steps) <= 3
    assert result["best_step"] in {*steps, 12}


def test_checkpoints_hold_no_pickle(place: Place) -> None:
    place.train(name="a")
    for path in (place.run("a").path / "checkpoints").rglob("*"):
        if path.is_file():
            assert path.suffix in {".safetensors", ".json"}
            assert not path.read_bytes().startswith((b"\x80", b"PK"))


@pytest.mark.slow
def test_checkpoint_of_another_run_is_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 6, "run.seed=1", name="other")
    died(place, monkeypatch, 6, name="a")
    other = checkpoints.directory(place.run("other"), 5)
    target = checkpoints.directory(place.run("a"), 5)
    for file in other.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    assert place.train(name="a", resume="auto")["params_sha256"] == expected["params_sha256"]


@pytest.mark.parametrize("file", one_in(2, ["state.safetensors", "checkpoint.json"]))
@pytest.mark.parametrize("damage", one_in(4, ["flip", "cut", "empty", "gone"]))
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
    assert checkpoints.steps(run)[-1] == 10
    path = checkpoints.directory(run, 10) / file
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


@pytest.mark.slow
def test_every_checkpoint_damaged_starts_from_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = place.train(name="whole")
    died(place, monkeypatch, 10, name="a")
    for step in checkpoints.steps(place.run("a")):
        (checkpoints.directory(place.run("a"), step) / "checkpoint.json").write_text("{}")
    result = place.train(name="a", resume="auto")
    assert result["params_sha256"] == expected["params_sha256"]


def test_good_checkpoints_survive_behind_a_damaged_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = "run.checkpoint_every=1"
    died(place, monkeypatch, 11, "run.keep=4", every, name="a")
    run = place.run("a")
    assert {8, 9, 10, 11} <= set(checkpoints.steps(run))
    for step in (10, 11):
        (checkpoints.directory(run, step) / "state.safetensors").write_bytes(b"")
    with monkeypatch.context() as patch:
        die_before(patch, 10)
        with pytest.raises(Boom):
            place.train("run.keep=2", every, name="a", resume="auto")
    # The damaged one of step 11 must not take the place of a good one.
    assert checkpoints.steps(run)[-2:] == [9, 10]
    assert (run.path / "checkpoints" / "damaged-step-00000011-0002").is_dir()


@pytest.mark.slow
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
    assert checkpoints.steps(run) == [4, 5]
    assert [p.name for p in (run.path / "checkpoints").iterdir() if p.name.startswith(".")] == []
    result = place.train(name="a", resume="auto")
    assert run.attempt_facts(2)["from_step"] == 5
    assert result["params_sha256"] == expected["params_sha256"]


@pytest.mark.slow
def test_another_version_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    died(place, monkeypatch, 6, name="a")
    said: list[str] = []
    with monkeypatch.context() as patch:
        die_before(patch, 8)
        with pytest.raises(Boom):
            place.train(name="a", resume="a", announce=said.append)
    assert not any("one version" in line for line in said)
    [maker] = place.run("a").info()["made_by"]
    place.run("a").update(made_by=[maker | {"commit": "f" * 40}])
    place.train(name="a", resume="a", announce=said.append)
    [line] = [line for line in said if "one version" in line]
    assert "f" * 40 in line
    assert maker["commit"] in line
    assert len(place.run("a").info()["made_by"]) == 2
