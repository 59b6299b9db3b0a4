"""Which run a command starts, finds or refuses, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_place import Place, died

import metadist
from metadist.errors import RecipeError, RunError

# --- names and runs that are there ----------------------------------------------------------------


def test_name_in_use_is_refused(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RunError, match=r"exists already.*--resume a"):
        place.train(name="a")


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".a", "a b", "x" * 200])
def test_names_that_cannot_be_directories(place: Place, name: str) -> None:
    with pytest.raises(RunError, match="--name"):
        place.train(name=name)
    assert not place.runs.exists() or not any(place.runs.iterdir())


@pytest.mark.slow
def test_default_names_do_not_collide(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metadist.driver.request.RunRequest.default_name", "same")
    assert [place.train()["run"] for _ in range(3)] == ["same", "same-2", "same-3"]


def test_unknown_run_is_named(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RunError, match=r"no run 'b'.*there are: a"):
        place.train(resume="b")


def test_finished_run_returns_its_result(place: Place) -> None:
    result = place.train(name="a")
    assert place.train(name="a", resume="auto") == result
    assert place.train(resume="auto") == result
    assert place.run("a").latest_attempt() == 1


@pytest.mark.slow
def test_auto_prefers_unfinished_runs_of_the_same_recipe(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    died(place, monkeypatch, 6, name="unfinished")
    place.train(name="finished")
    place.train("run.seed=1", name="other")
    assert place.train(resume="auto")["run"] == "unfinished"


@pytest.mark.slow
def test_auto_starts_a_run_where_there_is_none(place: Place) -> None:
    assert place.train(resume="auto", name="new")["run"] == "new"
    assert place.train("run.seed=1", resume="auto")["run"].startswith("sinusoid-10shot-maml-")


def test_auto_refuses_another_recipe_of_that_name(place: Place) -> None:
    place.train(name="a")
    with pytest.raises(RunError, match=r"inner.lr: 0.01 -> 0.02"):
        place.train("inner.lr=0.02", name="a", resume="auto")
    with pytest.raises(RunError, match=r"only outer.steps may grow"):
        place.train("outer.steps=20", name="a", resume="auto")


def test_auto_does_not_take_a_run_on_other_data(place: Place) -> None:
    place.train(name="a")
    place.run("a").update(dataset={"digest": "0" * 64})
    assert place.train(resume="auto")["run"] != "a"
    for resume in ("auto", "a"):
        with pytest.raises(RunError, match="dataset digest"):
            place.train(name="a", resume=resume)


def test_other_data_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    died(place, monkeypatch, 6, name="a")
    place.run("a").update(dataset={"digest": "0" * 64})
    with pytest.raises(metadist.MetadistError, match="dataset digest"):
        place.train(name="a", resume="auto")


def test_altered_recipe_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    died(place, monkeypatch, 6, name="a")
    path = place.run("a").path / "recipe.toml"
    path.write_text(path.read_text().replace("lr = 0.01", "lr = 0.02"))
    with pytest.raises(RunError, match="one of them was altered"):
        place.train(name="a", resume="auto")


@pytest.mark.slow
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


# --- what cannot be trained -----------------------------------------------------------------------


def test_evaluation_that_cannot_be_drawn_is_refused_before_training(
    place: Place, strokes_data: Path
) -> None:
    from data_pipeline.errors import DataError

    for more in ("eval.extra_queries=20", "eval.queries=25"):
        with pytest.raises(DataError, match=r"need .* images per class"):
            metadist.train(
                "strokes-5w1s-maml",
                name="a",
                overrides=[more],
                data_dir=strokes_data,
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
