"""What learners tell of their predictions is what these are made of."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.algorithms.snail import SNAIL
from metadist.learner import Explanation
from tests.contract.cases import Case, Options
from tests.contract.setting import Setting, make, with_columns
from tests.numerics.graph_reference import Graphs
from tests.numerics.metric_checks import logits, near
from tests.numerics.sequence_reference import affine


def told(setting: Setting) -> Explanation:
    """Of the first task at test."""
    learner, task = setting.algorithm, setting.tasks.task(0)
    ctx = setting.at(phase="test").task_ctx(0)
    *_, fitted = learner.adapt(setting.params, task.view(learner.needs), ctx)
    found = learner.explanation(fitted, task.visible_query(learner.needs), ctx)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "options", [(), (("scale", 3.0),), (("support_lstm", True), ("query_lstm_steps", 2))], ids=str
)
def test_attention_of_matching_on_a_class_is_its_probability(options: Options):
    setting = make(Case("matching", "mlp-relu", "none", options=options))
    labels = setting.tasks.task(0).support.y
    (attention,) = told(setting).attention.values()
    of_class = [attention[:, labels == way].sum(1) for way in range(int(labels.max()) + 1)]
    near(torch.stack(of_class, 1), logits(setting).exp())


def test_the_mean_cosine_is_no_attention():
    setting = make(Case("matching", "mlp-relu", "none", options=(("scores", "mean"),)))
    assert not told(setting).attention


@pytest.mark.parametrize("norm", ["none", "support"])
def test_prototypes_are_what_queries_are_near_to(norm):
    setting = make(Case("protonet", "conv4-stride", norm))
    found, support = told(setting), setting.tasks.task(0).support
    assert found.prototypes is not None
    apart = (found.query[:, None] - found.prototypes).square().sum(2)
    near(-apart, logits(setting))
    means = [found.support[support.y == way].mean(0) for way in range(len(found.prototypes))]
    near(found.prototypes, torch.stack(means))


def test_attention_of_snail_is_that_of_the_whole_sequence():
    """Vaswani et al., 2017, equation 1, at the last place of a sequence that is passed whole."""
    setting = make(Case("snail", "mlp-relu", "none"))
    learner, theta, found = setting.algorithm, setting.params, told(setting)
    assert isinstance(learner, SNAIL)
    labels = torch.eye(learner.ways, dtype=torch.float64)[setting.tasks.task(0).support.y]
    support = learner.places(theta, found.support, labels)
    null = torch.zeros(1, learner.ways, dtype=torch.float64)
    names = [name.removesuffix(".query.bias") for name in theta if name.endswith(".query.bias")]
    assert len(names) == len(found.attention) == 3
    for query, features in enumerate(found.query):
        sequence = torch.cat([support, learner.places(theta, features[None], null)])
        places = learner.blocks.whole(theta, sequence)
        for name, attention in zip(names, found.attention.values(), strict=True):
            inputs = places[:, : theta[f"{name}.key.weight"].shape[1]]
            asked, keys = (affine(theta, f"{name}.{part}", inputs) for part in ("query", "key"))
            scores = torch.exp(keys @ asked[-1] / math.sqrt(len(asked[-1])))
            near(attention[query], (scores / scores.sum())[:-1])


def vertices(setting: Setting, found: Explanation) -> Tensor:
    """Of every query's graph [Q, V, F]: features and labels, those that are not known uniform."""
    theta, support = setting.params, setting.tasks.task(0).support
    ways = int(support.y.max()) + 1
    known = torch.full((len(found.support), ways), 1 / ways, dtype=torch.float64)
    known[: len(support)] = torch.eye(ways, dtype=torch.float64)[support.y]

    null = torch.full((len(found.query), ways), 1 / ways, dtype=torch.float64)
    own = torch.cat([affine(theta, "graph.embedding", found.query), null], 1)
    shared = torch.cat([affine(theta, "graph.embedding", found.support), known], 1)
    return torch.stack([torch.cat([shared, query[None]]) for query in own])


@pytest.mark.parametrize("how", ["ignored", "vertices", "asked"])
def test_a_graph_is_that_of_its_equations(how: str):
    options = (("width", 8), ("embedding", 6), ("unlabeled", how))
    setting = make(Case("gnn", "mlp-relu", "none", options=options))
    found = told(setting)
    assert list(found.adjacency) == [f"convolution {i}" for i in (1, 2, 3)]
    for name, adjacency in found.adjacency.items():
        near(adjacency.sum(2), torch.ones(adjacency.shape[:2], dtype=torch.float64))
        assert not adjacency.diagonal(dim1=1, dim2=2).any()
        assert torch.equal(found.attention[name], adjacency[:, -1, :-1])
    x = vertices(setting, found)
    graphs = Graphs(setting.case.reference, setting.params, "off")
    near(found.adjacency["convolution 1"], graphs.edges(0, x))
    if how != "asked":
        h = torch.cat([x, graphs.layer("graph.0.vertex", graphs.heard(0, x))], 2)
        near(found.adjacency["convolution 2"], graphs.edges(1, h))


@pytest.mark.parametrize("algorithm", ["protonet", "nearest_embedding"])
def test_features_of_queries_are_normalised_as_predictions_are(algorithm: str):
    """A query alone among others of its task, but for ``transductive``, has the same features."""
    for norm in ("support", "transductive"):
        setting = make(Case(algorithm, "conv4-stride", norm))
        x = setting.tasks.tensors["query_x"]
        fewer = with_columns(setting.tasks, query_x=x[:, :2])
        whole, alone = told(setting), told(replace(setting, tasks=fewer))
        assert torch.equal(whole.support, alone.support)
        same = torch.allclose(whole.query[:2], alone.query, rtol=1e-9, atol=1e-9)
        assert same == (norm == "support")
