"""The paired difference of two learners, against other people's computation of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from metadist.errors import RunError
from metadist.objectives import ACCURACY, MSE, Metric
from metadist.statistics.paired import Rows, paired, t975


def rows(*values: float, metric: Metric = ACCURACY, digest: str = "e") -> Rows:
    return Rows(digest, metric, np.array(values, dtype=np.float64))


def test_quantiles_are_those_of_the_table():
    # Fisher & Yates, Statistical Tables, 1938, table III.
    table = {1: 12.706, 2: 4.303, 5: 2.571, 10: 2.228, 30: 2.042, 120: 1.980}
    assert {freedom: round(t975(freedom), 3) for freedom in table} == table
    with pytest.raises(ValueError, match="at least 1"):
        t975(0)


@pytest.mark.parametrize("n", [2, 3, 37, 600])
def test_the_interval_is_that_of_a_paired_t_test(n):
    rng = np.random.default_rng(n)
    a = rng.normal(0.6, 0.2, n)
    b = a + rng.normal(0.01, 0.05, n)
    found = paired(rows(*a), rows(*b))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.mean - found.ci95 == pytest.approx(interval.low, abs=1e-9)
    assert found.mean + found.ci95 == pytest.approx(interval.high, abs=1e-9)
    assert (found.n, found.left_out) == (n, 0)


def test_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, t(2) = 4.302653.
    found = paired(rows(2, 4, 6), rows(1, 2, 3))
    assert found.mean == pytest.approx(2.0)
    assert found.ci95 == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)


def test_pairing_tells_apart_what_two_intervals_do_not():
    rng = np.random.default_rng(0)
    b = rng.normal(0.6, 0.2, 100)
    a = b + 0.02 + rng.normal(0, 0.01, 100)
    alone = 1.96 * b.std() / 10
    found = paired(rows(*a), rows(*b))
    assert alone > abs(found.mean) > found.ci95
    assert found.word(ACCURACY) == "better"
    assert paired(rows(*b), rows(*a)).word(ACCURACY) == "worse"


def test_a_failed_episode_of_functions_is_left_out_and_counted():
    nan = math.nan
    found = paired(rows(1, nan, 3, 4, metric=MSE), rows(0, 1, nan, 2, metric=MSE))
    assert (found.mean, found.n, found.left_out) == (1.5, 2, 2)
    # Of an error less is better.
    assert paired(rows(1, 1.1, metric=MSE), rows(9, 9.1, metric=MSE)).word(MSE) == "better"


def test_a_failed_episode_of_classes_counts_as_wrong():
    found = paired(rows(0.0, 0.5), rows(0.5, 0.5))
    assert (found.mean, found.n, found.left_out) == (-0.25, 2, 0)


@pytest.mark.parametrize(
    ("a", "b", "n", "left_out", "word"),
    [
        ((0.5,), (0.25,), 1, 0, None),
        ((math.nan,), (0.25,), 0, 1, None),
        ((), (), 0, 0, None),
        ((0.5, 0.5), (0.5, 0.5), 2, 0, "within noise"),
        ((0.75, 0.75), (0.5, 0.5), 2, 0, "better"),
        ((1e300, -1e300), (-1e300, 1e300), 2, 0, None),
        ((math.inf, 1.0), (1.0, 1.0), 1, 1, None),
    ],
)
def test_few_equal_and_enormous_scores(a, b, n, left_out, word):
    found = paired(rows(*a), rows(*b))
    assert (found.n, found.left_out, found.word(ACCURACY)) == (n, left_out, word)


def test_common_episodes_are_compared():
    found = paired(rows(1, 2, 3, 100), rows(0, 1, 2))
    assert (found.mean, found.n) == (1.0, 3)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(RunError, match="other episodes"):
        paired(rows(1, 2), rows(1, 2, digest="f"))
    with pytest.raises(RunError, match="accuracy and mse"):
        paired(rows(1, 2), rows(1, 2, metric=MSE))
