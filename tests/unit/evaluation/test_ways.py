"""Ways and shots of evaluation that are others than those of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from plugin_files import DATASET, EPISODES, write

import metadist
from data_pipeline.errors import DataError
from metadist import plugins
from metadist.api import EvaluationResult
from metadist.compute.resolve import resolve
from metadist.driver.preflight import preflight
from metadist.episode_data import EpisodeData, open_data
from metadist.errors import RecipeError, RunError
from metadist.evaluation.diagnostics import gradient_alignment
from metadist.evaluation.protocols import (
    EvalRequest,
    own_protocols,
    protocol,
    validation_protocol,
)
from metadist.evaluation.trained_run import TrainedRun
from metadist.recipe.schema import Recipe, parse_recipe
from metadist.runs.classes import classes_file, read_classes
from metadist.runs.log import series
from metadist.runs.run_dir import RunDir

PIXELS = ("algorithm.name=nearest_pixels", "eval.steps=0", "inner.steps=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 3 ways: ``network``, whose head has them, and ``pixels``, which has no parameters.

    ``pairs`` is ``pixels`` with 2 ways, ``other`` with other ways and shots at evaluation.
    """
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    ended_run(root, "network", IMAGES)
    ended_run(root, "pixels", IMAGES, *PIXELS)
    ended_run(root, "pairs", IMAGES, *PIXELS, "data.ways=2")
    ended_run(root, "other", IMAGES, *PIXELS, "eval.ways=2", "eval.shots=3")
    return root


def evaluate(place: Path, run: str | list[str], **asked: Any) -> EvaluationResult:
    return metadist.evaluate(run, runs_dir=place / "runs", data_dir=place / "data", **asked)


def summary(place: Path, run: str, name: str) -> dict[str, Any]:
    found = json.loads((place / "runs" / run / "evaluation" / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def nearest(data: EpisodeData, ways: int, shots: int, queries: int, episodes: int) -> float:
    """Accuracy of the most similar support image by cosine, written again."""
    batch = data.live("test", queries, 0, shots, ways).episodes(range(episodes))
    assert batch.support_y.shape == (episodes, ways * shots)

    def flat(x: np.ndarray) -> np.ndarray:
        x = x.reshape(*x.shape[:2], -1).astype(np.float64)
        return x / np.linalg.norm(x, axis=2, keepdims=True)

    similar = flat(batch.query_x) @ flat(batch.support_x).transpose(0, 2, 1)
    predicted = np.take_along_axis(batch.support_y, similar.argmax(2), axis=1)
    return float((predicted == batch.query_y).mean())


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ways", [2, 4])
def test_other_ways_are_evaluated(ways: int, place: Path):
    name = f"test-{ways}way-2shot-2q"
    result = evaluate(place, "pixels", ways=ways, shots=2)
    assert list(result["protocols"]) == [name]
    assert result["ways"] == ways
    found = summary(place, "pixels", name)
    assert (found["ways"], found["shots"], found["queries"]) == (ways, 2, 2)
    run = RunDir(place / "runs" / "pixels")
    data = open_data(run.recipe(), place / "data")
    assert result["accuracy"] == pytest.approx(nearest(data, ways, 2, 2, 9), abs=1e-12)
    classes = read_classes(classes_file(run.evaluation, name), 9)
    assert classes is not None
    assert classes.ways == ways
    assert found["episode_digest"] == data.live("test", 2, 0, 2, ways).identity.digest


def test_the_ways_of_training_are_the_recipes_own_protocol(place: Path):
    before = (place / "runs/pixels/evaluation/test-2q.json").read_bytes()
    assert list(evaluate(place, "pixels", ways=3)["protocols"]) == ["test-2q"]
    assert (place / "runs/pixels/evaluation/test-2q.json").read_bytes() == before
    assert "ways" not in json.loads(before)


def test_a_head_that_has_the_ways_is_named(place: Path):
    before = sorted((place / "runs/network/evaluation").iterdir())
    with pytest.raises(RunError, match=r"3 classes.*cannot tell 2: head\.bias, head\.weight"):
        evaluate(place, "network", ways=2)
    assert sorted((place / "runs/network/evaluation").iterdir()) == before
    assert evaluate(place, "network", ways=3)["ways"] == 3


def test_a_head_that_has_the_ways_is_refused_before_it_is_trained(place: Path):
    with pytest.raises(RunError, match=r"cannot tell 2: head\.bias, head\.weight of what"):
        preflight(resolve(recipe("eval.ways=2")), place / "data")
    preflight(resolve(recipe("eval.ways=2", *PIXELS)), place / "data")


@pytest.mark.parametrize("ways", [-1, 0, 1, 10**6])
def test_ways_that_cannot_be(ways: int):
    with pytest.raises(RunError, match=r"ways: at (least 2 is|most 100000 are)"):
        EvalRequest(ways=ways)


def test_too_few_classes_name_the_option(place: Path):
    with pytest.raises(DataError, match=r"99-way episodes need.*lower --ways \(99\)"):
        evaluate(place, "pixels", ways=99)


# --- what a recipe says ---------------------------------------------------------------------------


def test_a_recipe_has_ways_and_shots_of_evaluation(place: Path):
    run = RunDir(place / "runs" / "other")
    data = open_data(run.recipe(), place / "data")
    for queries in (2, 4):
        found = summary(place, "other", f"test-{queries}q")
        assert (found["ways"], found["shots"]) == (2, 3)
        mean = nearest(data, 2, 3, queries, 9)
        assert found["by_step"][0]["mean"] == pytest.approx(mean, abs=1e-12)
    assert data.training().identity.spec.ways == data.shape.outputs == 3
    assert len(series(run)["val/accuracy"]) == 1
    # Another protocol is named by what differs from the recipe, not from training.
    result = evaluate(place, "other", ways=3, shots=1)
    assert list(result["protocols"]) == ["test-3way-1shot-2q"]
    own = summary(place, "pixels", "test-2q")
    there = summary(place, "other", "test-3way-1shot-2q")
    assert there["by_step"] == own["by_step"]
    assert "ways" not in there


def recipe(*overrides: str, text: str = IMAGES) -> Recipe:
    return parse_recipe(text, "x", overrides)


def test_validation_and_test_have_them():
    one = recipe("eval.ways=2", "eval.shots=5")
    for how in (validation_protocol(one), *own_protocols(one)):
        assert (how.ways, how.shots, how.other_ways) == (2, 5, True)
    assert [how.name for how in own_protocols(one)] == ["test-2q", "test-4q"]
    bare = recipe()
    for how in (validation_protocol(bare), *own_protocols(bare)):
        assert (how.ways, how.shots, how.other_ways) == (3, 1, False)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (EvalRequest(ways=20, shots=5), "test-20way-5shot-2q"),
        (EvalRequest(ways=20, steps=7, queries=15), "test-20way-7step-15q"),
        (EvalRequest("val", ways=3), "val-2q"),
        (EvalRequest(), "test-2q"),
    ],
)
def test_names(asked: EvalRequest, name: str):
    assert protocol([("a", recipe())], asked).name == name


def test_functions_have_no_ways(place: Path):
    functions = recipe(text=FUNCTIONS)
    with pytest.raises(RunError, match="a learns functions, which have no classes, 5 ways were"):
        protocol([("a", functions)], EvalRequest(ways=5))
    assert protocol([("a", functions)], EvalRequest()).ways == 0
    for wrong in (recipe("eval.ways=5", text=FUNCTIONS), recipe("eval.ways=1")):
        with pytest.raises(RecipeError, match=r"eval\.ways: at least 2 for classes"):
            open_data(wrong, place / "data")


# --- unlabeled images -----------------------------------------------------------------------------


@pytest.mark.slow
def test_who_does_not_ask_for_unlabeled_images_learns_the_same(place: Path):
    more = ("data.unlabeled=2", "data.distractors=1")
    run = ended_run(place, "unlabeled", IMAGES, "data.ways=2", *more)
    bare = ended_run(place, "bare", IMAGES, "data.ways=2")
    data = open_data(run.recipe(), place / "data")
    assert data.training().episodes([0]).columns["unlabeled_y"].shape == (1, 6)
    there, plain = run.info()["result"], bare.info()["result"]
    assert there["params_sha256"] == plain["params_sha256"]
    assert there["accuracy"] == plain["accuracy"]
    with_them, without = (summary(place, name, "test-2q") for name in (run.name, bare.name))
    assert with_them["by_step"] == without["by_step"]
    assert with_them["episode_digest"] != without["episode_digest"]


# --- ensembles ------------------------------------------------------------------------------------


def test_members_of_an_ensemble_agree_on_the_ways(place: Path, tmp_path: Path):
    with pytest.raises(RunError, match=r"number of ways \(pixels: 3, pairs: 2\); say which with"):
        evaluate(place, ["pixels", "pairs"], out=tmp_path / "none")
    result = evaluate(place, ["pixels", "pairs"], ways=2, out=tmp_path / "two")
    alone = evaluate(place, "pairs")
    assert [member["accuracy"] for member in result["members"]] == [alone["accuracy"]] * 2
    assert result["accuracy"] == alone["accuracy"]
    assert result["protocols"]["test-2way-2q"]["ways"] == 2
    with pytest.raises(RunError, match="maml was trained to tell 3 classes apart"):
        evaluate(place, ["network", "pairs"], ways=2, steps=0, out=tmp_path / "three")


# --- other ways than training has -----------------------------------------------------------------

PROTOTYPES = Path(__file__).parents[2] / "support" / "plugins" / "prototypes.py"
STEPLESS = ("algorithm.name=prototypes", "inner.steps=0", "eval.steps=0", "eval.extra_queries=0")
#: Clusters, those of training in stages.
STAGED = EPISODES.replace(
    "def open(part, spec, seed):",
    """class Staged(Clusters):
    stages = 1

    def stage(self, number, params_digest, params):
        inner = Clusters("train", self.identity.spec, self.identity.seed)
        inner.identity = staged_identity(self.identity, number, params_digest)
        return inner


def open(part, spec, seed):
    if part == "train":
        return Staged(part, spec, seed)
""",
).replace(
    "from data_pipeline.rng",
    "from data_pipeline.episodes.staged import staged_identity\nfrom data_pipeline.rng",
)


class Trained:
    """Runs of prototypes, on a dataset from a file."""

    def __init__(self, root: Path, data: Path, *overrides: str, text: str = IMAGES) -> None:
        self.root, self.plugins = root, [data, PROTOTYPES]
        (root / "x.toml").write_text(text, encoding="utf-8")
        self.overrides = [f"data.dataset={data.stem}", *STEPLESS, *overrides]
        self.places: dict[str, Any] = {"runs_dir": root / "runs", "data_dir": root / "data"}

    def train(self, name: str, *overrides: str) -> dict[str, Any]:
        metadist.train(
            self.root / "x.toml",
            overrides=[*self.overrides, *overrides],
            name=name,
            offline=True,
            plugins=self.plugins,
            **self.places,
        )
        found = RunDir(self.root / "runs" / name).evaluation / "diagnostics.json"
        return dict(json.loads(found.read_text()))


def squares(root: Path, training: int, other: int) -> Path:
    """Classes of 4 images: so many of training and of the other parts."""
    text = DATASET.replace("range(5)", f"range({training} if part == 'train' else {other})")
    return write(root / "squares.py", text)


def test_fewer_training_classes_than_ways_at_evaluation(tmp_path: Path):
    trained = Trained(tmp_path, squares(tmp_path, 3, 5), "eval.ways=5")
    found = trained.train("few")
    with plugins.use(trained.plugins):
        run = TrainedRun.load(
            RunDir(tmp_path / "runs" / "few"), tmp_path / "data", torch.device("cpu")
        )
        work = run.evaluator
        own, training = work.trained(run.best, 3), work.setup.data.training()
        assert training.identity.spec.ways == 3
        expected = gradient_alignment(own, training)[0]
    assert found["gradient_alignment"] == pytest.approx(expected, abs=1e-12)


def test_staged_tasks_have_the_ways_of_training(tmp_path: Path):
    path = write(tmp_path / "clusters.py", STAGED)
    text = IMAGES.replace('"conv4"\nfilters = 4', '"mlp"\nnorm = "none"')
    found = Trained(tmp_path, path, "eval.ways=2", "data.ways=4", text=text).train("staged")
    assert found["failed_tasks"] == 0
    assert found["gradient_alignment"]["all"] is not None


@pytest.mark.slow
def test_an_ensemble_trained_with_more_ways_than_there_are_test_classes(tmp_path: Path):
    trained = Trained(tmp_path, squares(tmp_path, 6, 3), "data.ways=5", "eval.ways=3")
    for seed in (0, 1):
        trained.train(f"s{seed}", f"run.seed={seed}")
    result = metadist.evaluate(["s0", "s1"], plugins=trained.plugins, **trained.places)
    assert result["ways"] == 3
