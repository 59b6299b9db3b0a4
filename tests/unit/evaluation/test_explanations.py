"""What is kept of explanations: a map of features, the attention of a few queries, a graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ended_runs import IMAGES, image_data
from fresh_learners import learner, sources
from torch import Tensor

from metadist.evaluation.explanations import Plane, explanations, shown_queries
from metadist.keys import Key

# --- a plane --------------------------------------------------------------------------------------


def points(count: int, size: int) -> Tensor:
    return Key.of("points").normal((count, size), torch.float64) * torch.arange(1, size + 1)


@pytest.mark.parametrize(("count", "size"), [(20, 5), (6, 40)])
def test_a_plane_is_that_of_the_largest_eigenvalues_of_the_covariance(count: int, size: int):
    x = points(count, size)
    plane = Plane.of(x)
    values, vectors = np.linalg.eigh(np.cov(x.numpy().T))
    torch.testing.assert_close(
        plane.shares, torch.tensor(values[::-1][:2].copy() / values.sum()), rtol=1e-9, atol=1e-9
    )
    for axis, wanted in zip(plane.axes.T, vectors.T[::-1], strict=False):
        assert abs(abs(float(axis @ torch.tensor(wanted))) - 1) < 1e-9
        assert axis[axis.abs().argmax()] > 0
    variances = plane.projected(x).var(0)
    assert variances[0] >= variances[1]
    torch.testing.assert_close(variances.sum() / x.var(0).sum(), plane.shares.sum())


def test_distances_within_a_plane_are_kept():
    flat = points(12, 2) @ torch.linalg.qr(points(7, 2)).Q.T + 3.0
    torch.testing.assert_close(
        torch.cdist(Plane.of(flat).projected(flat), Plane.of(flat).projected(flat)),
        torch.cdist(flat, flat),
    )


def test_points_that_fill_no_plane():
    line = torch.arange(5.0, dtype=torch.float64)[:, None] * torch.tensor([[3.0, -4.0, 0.0]])
    plane = Plane.of(line)
    torch.testing.assert_close(plane.shares, torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert not plane.projected(line)[:, 1].any()
    assert plane.axes[1, 0] > 0
    for x in (
        torch.ones(4, 3, dtype=torch.float64),
        torch.arange(3.0, dtype=torch.float64)[:, None],
    ):
        plane = Plane.of(x)
        assert plane.projected(x).shape == (len(x), 2)
        assert bool(plane.projected(x).isfinite().all())
        assert plane.shares.shape == (2,)


def test_the_queries_that_are_shown_are_a_few_of_each_class():
    labels = torch.tensor([1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1])
    assert shown_queries(labels, 2) == [1, 0, 4, 2, 6, 3, 5, 7, 8, 9]
    many = torch.arange(20).repeat(3)
    assert shown_queries(many, 20) == list(range(20))


# --- of episodes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    image_data(root)
    return root / "data"


def kept(images: Path, *overrides: str) -> tuple[dict[str, Tensor], Any]:
    trained, data = learner(IMAGES, *overrides, root=images)
    return explanations(trained, sources(trained, data)[1], 2), trained


def test_of_a_prototypical_network(images):
    found, trained = kept(images, "algorithm.name=protonet", "inner.steps=0")
    data = trained.recipe.data
    ways, support, queries = data.ways, data.ways * data.shots, 7 * data.ways
    shown = ways * min(7, 15 // ways)
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        "rows": (2, shown),
        "map.support": (2, support, 2),
        "map.query": (2, queries, 2),
        "map.prototypes": (2, ways, 2),
        "map.shares": (2, 2),
    }
    # The support set and the queries are around the middle; prototypes are means in the plane too.
    both = torch.cat([found["map.support"], found["map.query"]], 1)
    torch.testing.assert_close(both.mean(1), torch.zeros(2, 2), atol=1e-4, rtol=0)
    assert bool((found["map.shares"][:, 0] >= found["map.shares"][:, 1]).all())
    again, _ = kept(images, "algorithm.name=protonet", "inner.steps=0")
    assert all(torch.equal(tensor, again[name]) for name, tensor in found.items())


def test_of_a_graph(images):
    options = "algorithm.width=8", "algorithm.embedding=6"
    found, trained = kept(images, "algorithm.name=gnn", "inner.steps=0", *options)
    support = trained.recipe.data.ways * trained.recipe.data.shots
    first, attention = found["adjacency.convolution 1"], found["attention.convolution 1"]
    assert first.shape == (2, support + 1, support + 1)
    assert attention.shape == (2, found["rows"].shape[1], support)
    # The graph that is kept is that of the first query that is shown.
    assert torch.equal(first[:, -1, :-1], attention[:, 0])


def test_of_learners_that_tell_nothing(images):
    assert kept(images)[0] == {}


def test_features_that_are_not_finite_have_no_map(images):
    trained, data = learner(IMAGES, "algorithm.name=protonet", "inner.steps=0", root=images)
    params = {
        n: p.fill_(torch.nan) if n == "conv4.weight" else p for n, p in trained.params.items()
    }
    found = explanations(replace(trained, params=params), sources(trained, data)[1], 1)
    assert bool(found["map.query"].isnan().all())
    assert bool(found["map.shares"].isnan().all())
