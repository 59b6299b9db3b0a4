"""The interval over new classes, against worlds whose truth is known and its own definition."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from compared_runs import drawn_classes
from damage import flip
from numpy.typing import NDArray
from scipy import stats

from data_pipeline.errors import DataError
from data_pipeline.formats.parquet import write_table
from metadist.runs.classes import classes_file, read_classes, write_classes
from metadist.statistics.classes import EpisodeClasses, few_classes, of_classes
from metadist.statistics.new_classes import ci95_new_classes

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


def over_episodes(score: Floats) -> float:
    """The usual half-width."""
    return float(1.96 * score.std() / math.sqrt(len(score)))


def drawn(rng: np.random.Generator, count: int, episodes: int = 600, ways: int = 5) -> Classes:
    return np.argsort(rng.random((episodes, count)), axis=1)[:, :ways]


def half(score: Floats, classes: Classes) -> float:
    return float(ci95_new_classes(score[:, None], classes)[0])


# --- worlds whose truth is known ------------------------------------------------------------------


def own_difficulty(rng: np.random.Generator, classes: Classes, queries: int) -> Floats:
    """Each class has an accuracy of its own, around 0.8."""
    accuracy = rng.beta(12.0, 3.0, classes.max() + 1)
    return np.asarray(rng.binomial(queries, accuracy[classes]).mean(1) / queries)


def confusions(rng: np.random.Generator, classes: Classes, queries: int) -> Floats:
    """Classes lie in a space and are told apart by their distance: who is hard depends on whom."""
    places = 1.4 * rng.normal(size=(classes.max() + 1, 6))[classes]
    support = places + rng.normal(size=places.shape)
    right = np.zeros(len(classes))
    for _ in range(queries):
        query = places + rng.normal(size=places.shape)
        distance = np.square(query[:, :, None] - support[:, None]).sum(-1)
        right += (distance.argmin(2) == np.arange(classes.shape[1])).mean(1)
    return right / queries


WORLDS = {"difficulty": own_difficulty, "confusions": confusions}
#: Of the worlds, over all classes that there might be.
TRUTH = {"difficulty": 0.8}


def truth(world: Literal["difficulty", "confusions"]) -> float:
    """The mean over all classes that there might be."""
    if world not in TRUTH:
        rng = np.random.default_rng(1)
        many = [confusions(rng, drawn(rng, 400, 1000), 1).mean() for _ in range(60)]
        TRUTH[world] = float(np.mean(many))
    return TRUTH[world]


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("count", [6, 20, 423])
def test_it_covers_the_truth_about_new_classes(world, queries, count):
    """Nineteen times of twenty, or nearly: few classes are skewed, and little is known of them."""
    rng = np.random.default_rng(count)
    usual = new = 0
    widths = []
    for _ in range(120):
        classes = drawn(rng, count)
        score = WORLDS[world](rng, classes, queries)
        off = abs(score.mean() - truth(world))
        usual += off <= over_episodes(score)
        new += off <= half(score, classes)
        widths.append(half(score, classes) / over_episodes(score))
    assert new / 120 >= (0.85 if count < 10 else 0.89)
    if count <= 20:
        assert usual / 120 < 0.6  # what is printed beside it says little of new classes
    if (count, queries) == (423, 1):
        assert np.mean(widths) < 2  # where classes are many and noise is large, little is added


# --- its definition -------------------------------------------------------------------------------


def by_traces(score: Floats, classes: Classes) -> float:
    """The two moment equations with dense matrices [E, E]."""
    n = len(score)
    has = np.stack([(classes == c).sum(1) for c in np.unique(classes)], 1).astype(float)
    centre = np.eye(n) - 1 / n
    shared = centre @ has @ has.T @ centre
    freedom = np.trace(shared) ** 2 / np.trace(shared @ shared)
    noise = 1 - math.sqrt(2 / freedom) if freedom > 2 else 0.0
    r = centre @ score
    # E[r'Kr] and E[r'r] for scores of covariance effect x K + own x 1.
    left = [[np.trace(shared @ shared), noise * np.trace(shared)], [np.trace(shared), n - 1]]
    effect, own = np.linalg.solve(left, [r @ has @ has.T @ r, r @ r])
    if effect < 0:
        effect, own = 0.0, r @ r / (n - 1)
    if own < 0:
        effect, own = r @ r / np.trace(shared), 0.0
    variance = effect * np.square(has.mean(0)).sum() + own / n
    return float(stats.t.ppf(0.975, freedom) * math.sqrt(variance))


@pytest.mark.parametrize("count", [6, 7, 12, 60])
@pytest.mark.parametrize("kind", ["drawn", "in groups", "with turns"])
@pytest.mark.parametrize("noise", [0.001, 0.3])
def test_it_is_what_it_says(count, kind, noise):
    rng = np.random.default_rng(count)
    classes = drawn(rng, count, episodes=40, ways=3)
    if kind == "in groups":  # fixed labels: one class of each group
        classes = 3 * rng.integers(count // 3 + 1, size=(40, 3)) + np.arange(3)
    if kind == "with turns":  # a class may be in an episode twice
        classes = drawn(rng, 4 * count, episodes=40, ways=3) // 4
    score = 0.2 * rng.normal(size=classes.max() + 1)[classes].mean(1) + noise * rng.normal(size=40)
    assert half(score, classes) == pytest.approx(by_traces(score, classes), rel=1e-6)
    assert half(score, classes) >= over_episodes(score)
    # Columns are scores of their own.
    both = ci95_new_classes(np.stack([score, 2 * score + 1], 1), classes)
    assert both[1] == pytest.approx(2 * both[0])


def test_where_no_episodes_share_a_class_it_is_students_over_episodes():
    score = np.random.default_rng(0).random(50)
    apart = stats.sem(score) * stats.t.ppf(0.975, 49)
    assert half(score, np.arange(250).reshape(50, 5)) == pytest.approx(apart)


@pytest.mark.parametrize("episodes", [1, 2, 600])
def test_episodes_of_the_same_classes_tell_nothing_of_others(episodes):
    rng = np.random.default_rng(0)
    assert math.isnan(half(rng.random(episodes), drawn(rng, 5, episodes)))
    assert math.isnan(half(rng.random(1), drawn(rng, 50, 1)))


def test_equal_scores_differ_by_nothing():
    assert half(np.ones(30), drawn(np.random.default_rng(0), 20, 30)) == 0


# --- the record -----------------------------------------------------------------------------------


def test_classes_are_recorded_and_read_again(tmp_path: Path):
    ids = 4 * np.array([[0, 2, 6], [5, 1, 0]]) + np.array([[3, 0, 1], [0, 2, 0]])
    path = classes_file(tmp_path, "test-1q")
    assert path.name == "test-1q.classes.parquet"
    assert read_classes(path, 2) is None
    for turned in (7, 28):
        write_classes(path, EpisodeClasses(ids, 7, turned))
        found = read_classes(path, 2)
        assert found is not None
        assert np.array_equal(found.ids, ids)
        assert (found.count, found.turned, found.ways) == (7, turned, 3)


def test_damaged_and_foreign_records_are_refused(tmp_path: Path):
    path, good = tmp_path / "test-1q.classes.parquet", drawn_classes(6, 9)
    write_classes(path, good)
    for episodes in (5, 7, 600):
        with pytest.raises(DataError, match="its rows are not episodes"):
            read_classes(path, episodes)
    flip(path, 60)
    with pytest.raises(DataError):
        read_classes(path, 6)
    for found in (
        EpisodeClasses(good.ids, 8, 8),  # a class that is not there
        EpisodeClasses(good.ids - 40, 9, 9),
        EpisodeClasses(good.ids, 9, 10),
    ):
        write_classes(path, found)
        with pytest.raises(DataError, match="its classes are not among those that there are"):
            read_classes(path, 6)
    write_table(path, pa.table({"episode": [0]}))
    with pytest.raises(DataError, match="its columns are"):
        read_classes(path, 1)


def test_a_character_and_its_turns_are_one_class():
    score = np.random.default_rng(0).random((60, 2))
    plain = drawn_classes(60, 30)
    turned = EpisodeClasses(plain.ids + np.arange(5) % 4, 30, 120)
    assert turned.ci95(score).tolist() == plain.ci95(score).tolist()
    assert plain.told() == {"ways": 5, "classes": 30}
    assert turned.told() == {"ways": 5, "classes": 30, "turned_classes": 120}
    assert of_classes(turned.told(), labels=True) == " of 30 classes, 120 with turns"
    assert of_classes({}, labels=True) == ", number of classes not recorded"
    assert of_classes({}, labels=False) == ""


def test_fewer_than_five_times_the_ways_are_few():
    assert few_classes(25, 5, "test") == ""
    assert few_classes(24, 5, "test").startswith("24 test classes are fewer than 5 x 5 ways:")
    assert few_classes(2, 2, "val").startswith("2 validation classes are fewer than 5 x 2 ways:")
