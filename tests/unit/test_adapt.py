"""A trained learner labels images outside of any dataset, as the engine does, or says why not."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from fresh_learners import CPU, learner
from own_images import export, save
from plugin_files import SIGN_MAML

import metadist
from data_pipeline.datasets import preparation
from data_pipeline.labelled_images import read_queries, read_support
from data_pipeline.storage.local import read_sealed_json, sha256_bytes, write_sealed_json
from metadist.compute.determinism import reproducible
from metadist.errors import AdaptError, DamagedCheckpoint, RunError
from metadist.evaluation.image_classifier import ImageClassifier, Labels
from metadist.recipe.schema import parse_recipe
from metadist.runs.listing import create_run

#: Learners whose answer depends on random numbers, on normalisation in each mode, and on neither.
LEARNERS = {
    "maml": ("eval.steps=3",),
    "running": ("model.norm=running",),
    "support": ("model.norm=support",),
    "mtnet": ("algorithm.name=mtnet",),
    "scratch": ("algorithm.name=scratch",),
    "reptile": ("algorithm.name=reptile",),
    "finetune": ("algorithm.name=finetune", "algorithm.head_init=drawn"),
    "pixels": ("algorithm.name=nearest_pixels", "eval.steps=0"),
    "embedding": ("algorithm.name=nearest_embedding", "eval.steps=0"),
}
ANY_WAYS = {"scratch", "finetune", "pixels", "embedding"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image data, and the runs ``maml``, ``pixels`` and, on functions, ``lines``."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    short = ("eval.episodes=2", "eval.val_episodes=2", "eval.extra_queries=0")
    for name in ("maml", "pixels"):
        ended_run(root, name, IMAGES, *short, *LEARNERS[name])
    ended_run(root, "lines", FUNCTIONS)
    return root


@lru_cache
def fresh(place: Path, name: str) -> tuple[ImageClassifier, Any]:
    """A learner with fresh parameters as a classifier, and the test episodes of its data."""
    trained, data = learner(IMAGES, *LEARNERS[name], root=place / "data")
    prepare = preparation(data.store.dataset, data.store.shape, data.store.options)
    return ImageClassifier(trained, data.shape, prepare, {"run": name}), data.live("test", 2, 0, 2)


def adapt(place: Path, run: str, support: Path, query: Path, **more: Any) -> dict[str, Any]:
    places = {"runs_dir": place / "runs", "data_dir": place / "data"}
    return metadist.adapt(run, support=support, query=query, **(places | more))


# --- as the engine does -----------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNERS)
def test_exported_images_give_the_engines_own_logits(place, tmp_path, name):
    classifier, source = fresh(place, name)
    trained = classifier.trained
    support, query = export(source.episodes([0]), tmp_path)
    given = read_support(support, classifier.reading())
    asked = read_queries(query, classifier.reading())
    assert given.labels is not None
    result = classifier.label(given.pixels, given.labels, asked.pixels)
    # The engine in its own order of the support, and in that of the labels.
    task = trained.tasks(source, [0]).task(0)
    order = task.support_y.argsort(stable=True)
    task = replace(task, support_x=task.support_x[order], support_y=task.support_y[order])
    with reproducible(CPU):
        expected = trained.outputs(task, {}, "test", 0, trained.recipe.inner.steps)[-1]
    np.testing.assert_array_equal(result.logits, expected.double().numpy())
    np.testing.assert_allclose(result.probabilities.sum(1), 1.0, atol=1e-12)


@pytest.mark.parametrize("name", LEARNERS)
def test_saved_and_loaded_it_says_the_same(place, tmp_path, name):
    classifier, source = fresh(place, name)
    episode = source.episodes([0])
    names = [f"w{way}" for way in episode.support_y[0]]
    classifier.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        "recipe.toml",
        "weights.safetensors",
    ]
    loaded = ImageClassifier.load(tmp_path, CPU)
    before = classifier.label(episode.support_x[0], names, episode.query_x[0])
    after = loaded.label(episode.support_x[0], names, episode.query_x[0])
    np.testing.assert_array_equal(before.logits, after.logits)
    assert loaded.facts == classifier.facts
    assert (loaded.preparation, loaded.shape) == (classifier.preparation, classifier.shape)


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.toml", "config.json"])
def test_a_damaged_file_is_named(place, tmp_path, name):
    fresh(place, "maml")[0].save(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=name):
        ImageClassifier.load(tmp_path, CPU)
    (tmp_path / name).unlink()
    with pytest.raises(DamagedCheckpoint, match=name):
        ImageClassifier.load(tmp_path, CPU)


def test_only_its_own_files_are_read(place, tmp_path, monkeypatch):
    fresh(place, "maml")[0].save(tmp_path)
    body = read_sealed_json(tmp_path / "config.json")
    secret = tmp_path.parent / "secret"
    body["sha256"] = {**body["sha256"], str(secret): sha256_bytes(b""), "../secret": "0"}
    write_sealed_json(tmp_path / "config.json", body)
    opened: list[str] = []
    read = Path.read_bytes

    def watched(path: Path) -> bytes:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    ImageClassifier.load(tmp_path, CPU)
    assert sorted(set(opened)) == ["config.json", "recipe.toml", "weights.safetensors"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", ["weights.safetensors"]),
        ("sha256", {"weights.safetensors": "0"}),
        ("sha256", None),
        ("shape", []),
        ("shape", {"inputs": 1}),
        ("preparation", "x"),
        ("preparation", {"shape": [8, 8, 1], "low": 9, "high": 3}),
        ("facts", 1),
    ],
)
def test_a_configuration_that_is_none_is_named(place, tmp_path, key, value):
    fresh(place, "maml")[0].save(tmp_path)
    body = read_sealed_json(tmp_path / "config.json")
    write_sealed_json(tmp_path / "config.json", {**body, key: value})
    with pytest.raises(DamagedCheckpoint, match=r"config\.json"):
        ImageClassifier.load(tmp_path, CPU)


# --- what it can tell apart -------------------------------------------------------------------


def drawn(place: Path, ways: int, shots: tuple[int, ...] = (1,), name: str = "maml") -> Any:
    """Support of some shots per class, labels and a query of each class."""
    classifier, _ = fresh(place, name)
    rng = np.random.default_rng(ways)
    shape = classifier.preparation.shape
    kinds = rng.integers(0, 256, (ways, *shape), dtype=np.uint8)
    counts = [shots[way % len(shots)] for way in range(ways)]
    support = np.concatenate([np.stack([kinds[way]] * counts[way]) for way in range(ways)])
    labels = [f"kind {way}" for way in range(ways) for _ in range(counts[way])]
    return classifier, support, labels, kinds


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("ways", [2, 4])
def test_other_numbers_of_classes(place, name, ways):
    classifier, support, labels, queries = drawn(place, ways, name=name)
    if name in ANY_WAYS:
        result = classifier.label(support, labels, queries)
        assert result.logits.shape == (ways, ways)
        return
    with pytest.raises(AdaptError, match=rf"trained to tell 3 classes apart.*got {ways}"):
        classifier.label(support, labels, queries)


@pytest.mark.parametrize("name", LEARNERS)
def test_classes_may_have_different_numbers_of_images(place, name):
    classifier, support, labels, queries = drawn(place, 3, (1, 4, 2), name=name)
    result = classifier.label(support, labels, queries)
    assert result.shots == (1, 4, 2)
    assert np.isfinite(result.logits).all()
    if name == "pixels":
        assert result.predicted == result.names


def test_the_order_of_labels_does_not_matter_and_that_of_outputs_is_sorted(place):
    classifier, support, labels, queries = drawn(place, 3, (2,), name="mtnet")
    first = classifier.label(support, labels, queries)
    turned = [4, 5, 0, 1, 2, 3]
    second = classifier.label(support[turned], [labels[row] for row in turned], queries)
    assert first.names == ("kind 0", "kind 1", "kind 2")
    np.testing.assert_array_equal(first.logits, second.logits)


def test_transductive_predictions_depend_on_other_queries_and_say_so(place):
    for name, depends in (("maml", True), ("support", False), ("pixels", False)):
        classifier, support, labels, queries = drawn(place, 3, name=name)
        together = classifier.label(support, labels, queries)
        fewer = classifier.label(support, labels, queries[:2])
        same = np.allclose(together.logits[:2], fewer.logits, atol=1e-5)
        assert same is not depends
        assert any("depends on the others" in note for note in together.notes) is depends
        assert any("figures do not hold" in note for note in fewer.notes) is depends
        if depends:
            with pytest.raises(AdaptError, match="one query alone"):
                classifier.label(support, labels, queries[:1])
        else:
            assert len(classifier.label(support, labels, queries[:1]).logits) == 1


def test_many_queries_in_several_passes(place, monkeypatch):
    classifier, support, labels, queries = drawn(place, 3, name="running")
    whole = classifier.label(support, labels, queries)
    monkeypatch.setattr("metadist.evaluation.image_classifier._PASS", 2)
    parts = classifier.label(support, labels, queries)
    np.testing.assert_allclose(whole.logits, parts.logits, atol=1e-5)


def test_steps(place):
    classifier, support, labels, queries = drawn(place, 3)
    trained = classifier.label(support, labels, queries)
    assert trained.steps == 1
    more = classifier.label(support, labels, queries, 3)
    assert more.steps == 3
    assert not np.allclose(trained.logits, more.logits)
    for steps in (-1, 10**6):
        with pytest.raises(AdaptError, match="steps: between 0 and"):
            classifier.label(support, labels, queries, steps)
    pixels, *rest = drawn(place, 3, name="pixels")
    assert pixels.label(*rest).steps is None
    with pytest.raises(AdaptError, match="does not adapt by steps, 2 were asked"):
        pixels.label(*rest, 2)


def test_requests_that_make_no_sense(place):
    classifier, support, labels, queries = drawn(place, 3)
    with pytest.raises(AdaptError, match="no support image"):
        classifier.label(support[:0], [], queries)
    with pytest.raises(AdaptError, match="no query image"):
        classifier.label(support, labels, queries[:0])
    with pytest.raises(AdaptError, match=r"at least two classes.*'kind 0'"):
        classifier.label(support[:1], labels[:1], queries)


def test_divergence_is_an_error_and_no_label(place):
    classifier, support, labels, queries = drawn(place, 3)
    wild = {name: p * np.inf for name, p in classifier.trained.params.items()}
    broken = replace(classifier, trained=replace(classifier.trained, params=wild))
    with pytest.raises(AdaptError, match="not finite after 1 adaptation steps"):
        broken.label(support, labels, queries)


def test_probabilities_of_large_outputs():
    logits = np.array([[1e4, 0.0], [-1e4, -1e4]])
    labels = Labels(("a", "b"), logits, (1, 1), 1, ())
    np.testing.assert_array_equal(labels.probabilities, [[1.0, 0.0], [0.5, 0.5]])
    assert labels.predicted == ("a", "a")


# --- from folders to files --------------------------------------------------------------------


@pytest.fixture
def folders(place: Path, tmp_path: Path) -> tuple[Path, Path]:
    _, source = fresh(place, "maml")
    return export(source.episodes([1]), tmp_path / "mine")


def test_files(place, tmp_path, folders):
    support, query = folders
    result = adapt(place, "maml", support, query, out=tmp_path / "out")
    assert result["directory"] == str(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "adaptation.json",
        "predictions.csv",
        "predictions.svg",
    ]
    record = json.loads((tmp_path / "out" / "adaptation.json").read_text())
    assert record == {k: v for k, v in result.items() if k != "directory"}
    assert record["labels"] == {"way0": 2, "way1": 2, "way2": 2}
    assert record["checkpoint"]["step"] == 2
    assert "accuracy" not in record
    with (tmp_path / "out" / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file"] for row in rows] == sorted(p.name for p in query.iterdir())
    for row in rows:
        ways = {name: float(row[f"p({name})"]) for name in record["labels"]}
        assert row["label"] == max(ways, key=lambda name: ways[name])
        assert sum(ways.values()) == pytest.approx(1.0)
    svg = (tmp_path / "out" / "predictions.svg").read_text()
    assert svg.count("<image ") == 6 + 6
    assert "all of them" in svg


def test_true_labels_are_counted(place, tmp_path, folders):
    support, _ = folders
    result = adapt(place, "pixels", support, support, out=tmp_path / "out")
    assert (result["right"], result["accuracy"], result["steps"]) == (6, 1.0, None)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["true_label"] for row in rows] == [row["label"] for row in rows]
    assert (tmp_path / "out" / "predictions.svg").read_text().count("✓") == 6


def test_the_picture_is_bounded_and_says_what_it_leaves_out(place, tmp_path):
    rng = np.random.default_rng(0)
    for way in range(25):
        for n in range(9 if way == 0 else 1):
            pixels = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
            save(tmp_path / "support" / f"<way & {way:02d}>" / f"{n}.png", pixels)
    for n in range(50):
        save(tmp_path / "query" / f"{n:02d}.png", pixels)
    adapt(place, "pixels", tmp_path / "support", tmp_path / "query", out=tmp_path / "out")
    svg = (tmp_path / "out" / "predictions.svg").read_text()
    assert svg.count("<image ") == 8 + 19 + 40
    assert "+ 1<" in svg
    assert "and 5 labels more" in svg
    assert "10 more stand in predictions.csv" in svg
    assert "&lt;way &amp; 00&gt;" in svg
    assert "<way" not in svg


def test_results_are_never_overwritten(place, tmp_path, folders, monkeypatch):
    support, query = folders
    monkeypatch.chdir(tmp_path)
    for name in ("maml-adapted", "maml-adapted-2"):
        assert adapt(place, "maml", support, query)["directory"] == str(tmp_path / name)
    with pytest.raises(AdaptError, match="exists already and is kept"):
        adapt(place, "maml", support, query, out="maml-adapted")
    (tmp_path / "empty").mkdir()
    adapt(place, "maml", support, query, out="empty")
    assert (tmp_path / "empty" / "predictions.csv").is_file()


def test_inverted_images_are_turned_back(place, tmp_path, folders):
    support, query = folders
    prepare = fresh(place, "maml")[0].reading()
    for folder in (support, query):
        for path in folder.rglob("*.png"):
            pixels = prepare.pixels(path.read_bytes(), "it")
            save(tmp_path / "inverted" / path.relative_to(folder.parent), 255 - pixels)
    inverted = tmp_path / "inverted"
    adapt(place, "maml", support, query, out=tmp_path / "a")
    adapt(place, "maml", inverted / "support", inverted / "query", out=tmp_path / "b", invert=True)
    adapt(place, "maml", inverted / "support", inverted / "query", out=tmp_path / "c")
    a, b, c = ((tmp_path / name / "predictions.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_folder_of_queries_that_is_no_label(place, tmp_path, folders):
    support, _ = folders
    save(tmp_path / "asked" / "way9" / "1.png", np.zeros((16, 16, 1), dtype=np.uint8))
    with pytest.raises(AdaptError, match=r"'way9', which is no label.*way0, way1, way2"):
        adapt(place, "maml", support, tmp_path / "asked", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- runs that cannot -------------------------------------------------------------------------


def test_a_run_may_be_a_path(place, tmp_path, folders):
    support, query = folders
    path = str(place / "runs" / "maml")
    more = {"runs_dir": tmp_path / "none", "out": tmp_path / "out"}
    assert adapt(place, path, support, query, **more)["run"] == "maml"


def test_a_run_on_functions(place, tmp_path, folders):
    with pytest.raises(RunError, match=r"a run that classifies images is needed.*sinusoid"):
        adapt(place, "lines", *folders, out=tmp_path / "out")


@pytest.mark.parametrize("status", ["created", "running", "failed", "killed"])
def test_a_run_that_is_not_finished(tmp_path, folders, status):
    run = create_run(tmp_path / "runs", "half", parse_recipe(IMAGES), {})
    run.update(status=status)
    with pytest.raises(
        RunError, match=rf"finished run is needed, this one is '{status}'.*--resume"
    ):
        adapt(tmp_path, "half", *folders, out=tmp_path / "out")


def test_a_run_of_a_plugin_needs_the_plugin(place, tmp_path, folders):
    file = tmp_path / "sign_maml.py"
    file.write_text(SIGN_MAML)
    small = ("eval.episodes=2", "eval.val_episodes=2", "eval.extra_queries=0")
    places: Any = {"data_dir": place / "data", "runs_dir": tmp_path / "runs"}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(IMAGES.replace('"maml"', '"sign_maml"'))
    metadist.train(
        recipe,
        name="signed",
        overrides=small,
        **places,
        offline=True,
        plugins=[file],
    )
    more = {"out": tmp_path / "out", **places}
    with pytest.raises(RunError, match="give --plugin"):
        adapt(place, "signed", *folders, **more)
    assert adapt(place, "signed", *folders, **more, plugins=[file])["steps"] == 1
    with pytest.raises(RunError, match=r"code of .*sign_maml\.py, which a model cannot carry"):
        metadist.register("signed", **places, plugins=[file])
