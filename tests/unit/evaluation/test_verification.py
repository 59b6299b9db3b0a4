"""Pairs of examples: what counts say, who counts them, and what is written of it."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from ended_runs import IMAGES, ended_run, image_data
from fresh_learners import learner, sources
from torch import Tensor

import metadist
from metadist.compute.collectives import Group, Solo
from metadist.errors import RecipeError
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import write_evaluation
from metadist.evaluation.measures import pairs as counting
from metadist.evaluation.measures import roc
from metadist.evaluation.measures.pairs import VERIFIED, pair_scores, verify
from metadist.evaluation.measures.roc import BINS, Pairs, bin_of, score_of
from metadist.evaluation.protocols import EvalProtocol
from metadist.keys import Key
from metadist.objectives import ACCURACY, ROC_AREA
from metadist.runs.readers.verification import read_verification
from tests.numerics.conftest import RunGroup

SIAMESE = ("algorithm.name=siamese", "inner.steps=0", "eval.steps=0", "eval.verification=true")


def drawn(name: str, size: int = 40) -> tuple[Tensor, Tensor]:
    """Scores with ties, higher of the same class on the whole; whether they are."""
    key = Key.of("pairs", name)
    same = key.fold("same").uniform((size,)) < 0.3
    scores = (6 * key.fold("scores").uniform((size,), torch.float64) + 2 * same).round() / 4 - 1
    return scores, same


# --- what counts say ------------------------------------------------------------------------------


def right(scores: Tensor, same: Tensor, threshold: float) -> float:
    """Of as many pairs of either kind, one after the other."""
    told = [float(score) >= threshold for score in scores]
    kinds = [
        [t == bool(s) for t, s in zip(told, same, strict=True) if bool(s) == k] for k in (0, 1)
    ]
    return sum(sum(kind) / len(kind) for kind in kinds) / 2


def check_counts(name: str) -> None:
    """Area, accuracy and best threshold are those of the scores themselves."""
    scores, same = drawn(name)
    found = Pairs.of(scores, same)
    assert (found.same, found.different) == (int(same.sum()), int((~same).sum()))
    won = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, b in itertools.product(scores[same].tolist(), scores[~same].tolist())
    ]
    assert found.area() == pytest.approx(sum(won) / len(won), abs=1e-12)
    for score in scores.unique():
        place = int(bin_of(score))
        wanted = right(scores, same, float(score))
        assert found.accuracy(place) == pytest.approx(wanted, abs=1e-12)
    best = score_of(found.best_threshold())
    most = max(right(scores, same, float(score)) for score in scores)
    assert right(scores, same, best) == pytest.approx(most, abs=1e-12)


def test_counts_say_what_the_scores_do():
    for name in "abc":
        check_counts(name)


def ties_won(patch: pytest.MonkeyPatch) -> None:
    plain = Pairs.told_same

    def wrong(self: Pairs) -> Any:
        found = plain(self).copy()
        found[1, 1:] = found[1, :-1]
        return found

    patch.setattr(Pairs, "told_same", wrong)


def kinds_swapped(patch: pytest.MonkeyPatch) -> None:
    plain = Pairs.told_same
    patch.setattr(Pairs, "told_same", lambda self: plain(self)[::-1])


@pytest.mark.parametrize("mistake", [ties_won, kinds_swapped])
def test_other_counts_are_noticed(mistake: Any, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_counts("a")


def test_places_are_in_the_order_of_scores():
    scores = torch.tensor([-math.inf, -1e30, -2.0, -1.0078125, -1.0, -1e-30, 0.0, 1e-30, 0.5, 3e38])
    places = bin_of(scores)
    assert bool((places.diff() > 0).all())
    assert int(places.min()) >= 0
    assert int(places.max()) < BINS
    assert int(bin_of(torch.tensor(-0.0))) == int(bin_of(torch.tensor(0.0)))
    assert [score_of(int(p)) for p in places[2:5]] == [-2.0, -1.0078125, -1.0]
    # Eight digits are kept whatever the scale.
    fine = torch.linspace(100, 101, 9, dtype=torch.float64)
    assert len(set(bin_of(fine).tolist())) == 3


def test_what_is_not_finite_is_wrong():
    same = torch.tensor([True, True, False, False])
    for bad in (math.nan, math.inf, -math.inf):
        scores = torch.tensor([1.0, bad, bad, 0.0])
        found = Pairs.of(scores, same)
        threshold = int(bin_of(torch.tensor(0.5)))
        assert found.accuracy(threshold) == 0.5
        assert found.area() == 0.25


def test_the_threshold_lies_in_the_middle_of_the_best():
    scores, same = torch.tensor([-4.0, 1.0, 2.0]), torch.tensor([False, False, True])
    found = Pairs.of(scores, same)
    assert 1.0 < score_of(found.best_threshold()) < 2.0
    assert found.accuracy(found.best_threshold()) == found.area() == 1.0


def test_the_curve_is_one_of_few_points():
    key = Key.of("curve")
    same = key.fold("same").uniform((5000,)) < 0.2
    scores = key.normal((5000,)) + same
    found = Pairs.of(scores, same)
    wrong, hits = (np.array(axis) for axis in found.curve().values())
    assert (wrong[0], hits[0], wrong[-1], hits[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert len(wrong) <= roc.POINTS + 2
    assert bool((np.diff(wrong) >= 0).all())
    assert bool((np.diff(hits) >= 0).all())
    below = float(((hits[1:] + hits[:-1]) / 2 * np.diff(wrong)).sum())
    assert below == pytest.approx(found.area(), abs=2e-4)


# --- who counts them ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
def test_workers_do_not_matter(
    size: int, run_group: RunGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = EvalProtocol("test-5q", "test", 1, 5, 7, 0, 1, 1)
    recipe = SimpleNamespace(eval=SimpleNamespace(chunk=2))

    def scored(trained: Any, source: Any, ids: range, steps: int) -> list[tuple[Tensor, Tensor]]:
        assert ids[0] % 2 == 0
        found = [drawn(f"episode {episode}") for episode in ids]
        return [(torch.stack([s, 2 * s]), same) for s, same in found]

    monkeypatch.setattr(counting, "pair_scores", scored)

    def work(group: Group) -> Any:
        trained = cast(Any, SimpleNamespace(recipe=recipe))
        return verify(trained, cast(Any, None), how, group, int(bin_of(torch.tensor(0.25))))

    alone, *others = [work(Solo()), *run_group(size, work)]
    for other in others:
        assert torch.equal(other.accuracy, alone.accuracy)
        for a, b in zip(other.pairs, alone.pairs, strict=True):
            assert torch.equal(a.counts, b.counts)
    whole = [drawn(f"episode {episode}") for episode in range(7)]
    scores, same = (torch.cat(parts) for parts in zip(*whole, strict=True))
    assert alone.pairs[0].area() == Pairs.of(scores, same).area()
    assert alone.accuracy[3, 0] == pytest.approx(right(*whole[3], 0.25), abs=1e-12)


def test_a_learner_without_scores_is_refused():
    trained, data = learner()
    with pytest.raises(RecipeError, match=r"eval\.verification needs .* maml gives none"):
        pair_scores(trained, sources(trained, data)[1], [0], 1)


# --- what is written ------------------------------------------------------------------------------


def test_it_stands_beside_the_other_figures(tmp_path: Path):
    how = EvalProtocol("test-1q", "test", 1, 1, 2, 0, 1, 1)
    column = np.array([[0.5, 1.0], [0.0, 1.0]])
    plain = Evaluation(
        how, "k", (ACCURACY,), 1, {"accuracy": column, "loss": column}, column < 0, "e" * 64
    )
    found = [Pairs.of(*drawn(name)) for name in "ab"]
    accuracy = torch.tensor([[0.5, 0.75], [0.5, 1.0]], dtype=torch.float64)
    threshold = found[1].best_threshold()
    told = counting.Verification(found, accuracy).told(plain, threshold, "val")
    assert told.further == {VERIFIED.name: 0.875, ROC_AREA.name: found[1].area()}
    write_evaluation(tmp_path, told, {})
    summary = json.loads((tmp_path / "test-1q.json").read_text())
    assert summary["metrics"][VERIFIED.name]["mean"] == [0.5, 0.875]
    assert summary["pooled"][ROC_AREA.name] == [pairs.area() for pairs in found]
    read = read_verification(summary)
    assert read is not None
    assert (read.threshold, read.threshold_of) == (score_of(threshold), "val")
    assert (read.same, read.different) == (found[1].same, found[1].different)
    assert (read.curve[0], read.curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert read_verification(plain.summary({})) is None
    with pytest.raises(ValueError, match="as many shares of either kind"):
        read_verification(
            {"verification": {**summary["verification"], "true_positive_rate": [2.0]}}
        )
    assert replace(told, verification=None).summary({}) != told.summary({})


@pytest.mark.slow
def test_a_run_is_verified(tmp_path: Path):
    image_data(tmp_path)
    ended_run(tmp_path, "twins", IMAGES, *SIAMESE)
    result = metadist.evaluate(
        "twins", queries=5, runs_dir=tmp_path / "runs", data_dir=tmp_path / "data"
    )
    assert result is not None
    (text,) = (tmp_path / "runs/twins/evaluation").glob("test*-5q.json")
    summary = json.loads(text.read_text())
    told = read_verification(summary)
    assert told is not None
    assert told.threshold_of == "val"
    ways, shots = 3, 1
    assert told.same + told.different == summary["episodes"] * (ways * shots) * (ways * 5)
    assert told.same * (ways - 1) == told.different
    assert 0 <= summary["metrics"][VERIFIED.name]["mean"][0] <= 1
