"""A trained learner labels images outside of any dataset, as the engine does, or says why not."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_runs import IMAGES, image_data
from fresh_learners import CPU, fresh_classifier
from own_images import export

from data_pipeline.formats.labelled_images import read_queries, read_support
from data_pipeline.storage.local import read_sealed_json, sha256_bytes, write_sealed_json
from metadist.compute.determinism import reproducible
from metadist.errors import AdaptError, DamagedCheckpoint
from metadist.evaluation.image_classifier import ImageClassifier, Labels

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
    """Image data."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    return root


@lru_cache
def fresh(place: Path, name: str) -> tuple[ImageClassifier, Any]:
    return fresh_classifier(IMAGES, *LEARNERS[name], root=place / "data")


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
    order = task.support.y.argsort(stable=True)
    task = task.with_support(task.support[order])
    with reproducible(CPU):
        fitted, ctx = trained.fit(task, "test", 0, trained.recipe.inner.steps)
        expected = trained.learner.predict(fitted[-1], task.query, ctx).mean.detach()
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
