"""Learners in one file each, nothing else edited: from the first run to a comparison.

One without steps that is trained with more ways than it is tested with, one that predicts a scale,
one that uses examples without labels.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from plugin_parts import LEARNED, Learned, plugins, prepared

import metadist
from metadist.errors import RecipeError, RunError

each = pytest.mark.parametrize("learned", LEARNED, ids=str)
PROTOTYPES, SETS, REFINED = LEARNED


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and of each learner a finished run called as the learner."""
    place = prepared(tmp_path_factory.mktemp("plugins"))
    for learned in LEARNED:
        learned.train(place, learned.name)
    return place


def places(root: Path) -> dict[str, Any]:
    return {"runs_dir": root / "runs", "data_dir": root / "data"}


def document(root: Path, run: str, protocol: str) -> dict[str, Any]:
    path = root / "runs" / run / "evaluation" / f"{protocol}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@each
def test_a_run_says_what_it_was_made_with(root: Path, learned: Learned) -> None:
    info = json.loads((root / "runs" / learned.name / "run.json").read_text(encoding="utf-8"))
    assert info["status"] == "finished"
    assert set(info["plugins"]) == {"dataset", "algorithm"} - (
        {"dataset"} if learned is SETS else set()
    )
    assert info["plugins"]["algorithm"]["name"] == learned.name
    own = document(root, learned.name, "test-7q" if learned is SETS else "test-3q")
    assert own["score"] == learned.score
    assert own["failed"] == 0
    assert own.get("needs", []) == (["unlabeled"] if learned is REFINED else [])
    assert (root / "runs" / learned.name / "report.html").is_file()


@pytest.mark.slow
@each
def test_stopped_and_resumed_is_never_stopped(root: Path, learned: Learned) -> None:
    cut, whole = f"{learned.name}-cut", root / "runs" / learned.name
    learned.train(root, cut, "outer.steps=2")
    result = learned.train(root, cut, "outer.steps=4", resume=cut)
    info = json.loads((whole / "run.json").read_text(encoding="utf-8"))
    assert result["params_sha256"] == info["result"]["params_sha256"]
    for path in (whole / "evaluation").glob("test-?q.*"):
        assert path.read_bytes() == (root / "runs" / cut / "evaluation" / path.name).read_bytes()


@each
def test_it_is_evaluated_in_another_shape(root: Path, learned: Learned) -> None:
    found = metadist.evaluate(
        learned.name, **learned.elsewhere, plugins=learned.plugins, **places(root)
    )
    (name,) = found["protocols"]
    assert name == learned.protocol
    written = document(root, learned.name, name)
    assert written["failed"] == 0
    assert math.isfinite(written["by_step"][0]["mean"])
    assert written.get("ways") == learned.elsewhere.get("ways")


def test_the_ways_of_training_are_more_than_there_are_classes_to_test_with(root: Path) -> None:
    assert "ways" in document(root, "prototypes", "test-3q")
    assert document(root, "prototypes", "test-3q")["ways"] == 5


def test_a_head_for_so_many_ways_is_refused_by_name(root: Path) -> None:
    PROTOTYPES.train(root, "maml", "algorithm.name=maml", "data.ways=4", "eval.ways=0")
    with pytest.raises(RunError, match=r"4 classes apart and cannot tell 3.*head\.weight"):
        metadist.evaluate("maml", ways=3, plugins=plugins("blots"), **places(root))
    with pytest.raises(RunError, match=r"4 classes apart and cannot tell 5.*head\.weight"):
        PROTOTYPES.train(root, "maml-5", "algorithm.name=maml", "data.ways=4", "eval.ways=5")
    assert not (root / "runs" / "maml-5").exists()


@pytest.mark.slow
@each
def test_two_runs_are_compared(root: Path, learned: Learned) -> None:
    other = f"{learned.name}-other"
    learned.train(root, other, "run.seed=1")
    found = metadist.compare([learned.name, other], runs_dir=root / "runs")
    assert found["score"] == learned.score
    one, two = found["runs"]
    assert one["difference"] is None
    assert math.isfinite(two["difference"]["mean"])
    assert found["differences"]["run.seed"] == {learned.name: 0, other: 1}


# --- a likelihood, built in or in a file of its own -----------------------------------------------


@pytest.mark.parametrize(
    ("objective", "score", "further"),
    [
        pytest.param("density", "nll", {"mse", "coverage_95"}, marks=pytest.mark.slow),
        ("laplace", "nll", {"mae", "coverage_95"}),
        ("student_t", "surprise", set()),
        pytest.param("", "mse", set(), marks=pytest.mark.slow),
    ],
)
def test_the_recipe_chooses_the_likelihood(
    root: Path, objective: str, score: str, further: set[str]
) -> None:
    name = f"sets-{objective or 'plain'}"
    extra = plugins(objective) if objective in ("laplace", "student_t") else []
    SETS.train(
        root, name, f"objective.name={json.dumps(objective)}", plugins=[*SETS.plugins, *extra]
    )
    info = json.loads((root / "runs" / name / "run.json").read_text(encoding="utf-8"))
    assert ("objective" in info["plugins"]) == bool(extra)
    written = document(root, name, "test-7q")
    assert (written["kind"], written["score"]) == (objective or "regression", score)
    assert ("metric" in written) == (score == "surprise")
    assert {*written.get("metrics", ()), *written.get("pooled", ())} == further
    assert math.isfinite(written["by_step"][0]["mean"])


def test_options_of_an_objective_stand_in_the_recipe_and_its_hash(root: Path) -> None:
    own = {"plugins": [*SETS.plugins, *plugins("student_t")]}
    heavy = SETS.train(root, "heavy", "objective.name=student_t", "objective.degrees=3", **own)
    light = SETS.train(root, "light", "objective.name=student_t", "objective.degrees=30", **own)
    assert heavy["params_sha256"] != light["params_sha256"]
    with pytest.raises(RecipeError, match=r"objective\.degrees.*greater than 2"):
        SETS.train(root, "bad", "objective.name=student_t", "objective.degrees=2", **own)
    with pytest.raises(RecipeError, match=r"unknown key 'objective\.degree'.*degrees"):
        SETS.train(root, "bad", "objective.name=student_t", "objective.degree=3", **own)


def test_a_learner_without_a_scale_is_told_that_one_is_needed(root: Path) -> None:
    for objective in ("density", "laplace"):
        with pytest.raises(RecipeError, match=f"'{objective}' judges a predicted scale"):
            SETS.train(
                root,
                f"without-{objective}",
                "algorithm.name=maml",
                f"objective.name={objective}",
                plugins=plugins(*(["laplace"] if objective == "laplace" else [])),
            )


# --- examples without labels ----------------------------------------------------------------------


def test_data_without_unlabeled_examples_are_refused(root: Path) -> None:
    with pytest.raises(RecipeError, match=r"needs unlabeled of each task.*set data\.unlabeled"):
        REFINED.train(root, "none", "data.unlabeled=0", "data.distractors=0")
    assert not (root / "runs" / "none").exists()
