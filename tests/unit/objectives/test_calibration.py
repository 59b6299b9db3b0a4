"""The expected calibration error, against its definition and where it is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metadist.keys import Key
from metadist.objectives.classification import BINS, Classification
from metadist.tasks import Examples, Prediction

OBJECTIVE = Classification()
#: Of what sums of confidences are rounded to.
ROUNDED = 1e-8


def summed(episodes: list[tuple[Tensor, Examples]]) -> dict[str, Tensor]:
    counts = [OBJECTIVE.checked_counts(Prediction(logits), target) for logits, target in episodes]
    return {name: torch.stack([c[name] for c in counts]).sum(0) for name in counts[0]}


def ece(*episodes: tuple[Tensor, Examples]) -> float:
    return OBJECTIVE.checked_pooled(summed([*episodes]))["calibration_error"]


def drawn(episode: int, queries: int = 40, ways: int = 4) -> tuple[Tensor, Examples]:
    key = Key.of("calibration", episode)
    labels = (key.fold("labels").uniform((queries,)) * ways).long()
    return 3 * key.fold("logits").normal((queries, ways), torch.float64), Examples(y=labels)


def slow(*episodes: tuple[Tensor, Examples]) -> float:
    """Guo et al. (2017), equation 3, one query at a time."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for logits, target in episodes:
        for row, label in zip(logits.tolist(), target.y.tolist(), strict=True):
            total = math.fsum(math.exp(z) for z in row)
            confidence = max(math.exp(z) / total for z in row)
            place = min(BINS - 1, int(confidence * BINS))
            bins[place].append((confidence, row.index(max(row)) == label))
    count = sum(map(len, bins))
    apart = [abs(math.fsum(c for c, _ in b) - sum(right for _, right in b)) for b in bins]
    return math.fsum(apart) / count


def test_it_is_the_definition():
    episodes = [drawn(i) for i in range(5)]
    assert ece(*episodes) == pytest.approx(slow(*episodes), abs=ROUNDED)


def test_it_is_that_of_all_queries_and_not_a_mean_over_episodes():
    one, other = drawn(0), drawn(1, queries=7)
    assert ece(one, other) == pytest.approx(slow(one, other), abs=ROUNDED)
    assert abs(ece(one, other) - (ece(one) + ece(other)) / 2) > 1e-3


def test_the_order_changes_no_bit():
    episodes = [drawn(i) for i in range(6)]
    assert ece(*episodes) == ece(*reversed(episodes))


@pytest.mark.parametrize(("right", "wanted"), [(8, 0.0), (5, 0.3), (10, 0.2)])
def test_four_in_five_are_expected(right: int, wanted: float):
    """Ten queries with a confidence of .8."""
    logits = torch.tensor([0.8, 0.2], dtype=torch.float64).log().expand(10, 2)
    target = Examples(y=(torch.arange(10) >= right).long())
    assert ece((logits, target)) == pytest.approx(wanted, abs=ROUNDED)


def test_sure_and_right_is_nothing_and_sure_and_wrong_is_all():
    logits = torch.tensor([[1000.0, 0.0]])
    assert ece((logits, Examples(y=torch.tensor([0])))) == 0.0
    assert ece((logits, Examples(y=torch.tensor([1])))) == 1.0


def test_what_is_masked_does_not_count():
    logits, target = drawn(0)
    mask = torch.arange(len(target.y)) % 3 > 0
    kept = (logits[mask], Examples(y=target.y[mask]))
    assert ece((logits, Examples(y=target.y, mask=mask))) == ece(kept) != ece((logits, target))


def test_of_no_query_there_is_none():
    logits, target = drawn(0)
    none = Examples(y=target.y, mask=torch.zeros(len(target.y), dtype=torch.bool))
    assert math.isnan(ece((logits, none)))


def test_the_likelihood_is_that_of_the_label():
    logits, target = drawn(0)
    chosen = logits.softmax(-1).gather(1, target.y[:, None])
    score = OBJECTIVE.checked_score(Prediction(logits), target)
    assert float(score["nll"]) == pytest.approx(float(-chosen.log().mean()), rel=1e-12)
