"""Graph neural networks: what follows from their equations, each seen to fail under a mistake.

Predictions and gradients stand in ``graph_reference.py`` and are compared by the contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.algorithms import gnn
from metadist.algorithms.gnn import GNN
from metadist.backbones import Norm
from metadist.inner.blocks import graph
from metadist.inner.blocks.graph import Adjacency, GraphNetwork
from metadist.inner.similarity import class_means
from metadist.keys import Key
from metadist.tasks import Params, TaskBatch, Unlabeled
from tests.contract.cases import WAYS, Case
from tests.contract.setting import Setting, make, with_columns
from tests.numerics.metric_checks import logits, near, reordered

CASE = Case("gnn", "mlp-relu", "none", options=(("width", 8), ("embedding", 6)))
VERTICES, INPUTS = 5, 3
OFF = Norm("off")
Mistake = Callable[[pytest.MonkeyPatch], None]


def double(name: str, *shape: int) -> Tensor:
    return Key.of("gnn", name).normal(shape, torch.float64)


def in_double(params: Params) -> Params:
    return {n: p.double() for n, p in params.items()}


def with_unlabeled(how: str) -> Setting:
    """A setting in which unlabeled examples are used so."""
    setting = make(replace(CASE, options=(*CASE.options, ("unlabeled", how))))
    assert isinstance(setting.algorithm, GNN)
    return setting


# --- a set of vertices ----------------------------------------------------------------------------


def check_order(setting: Setting) -> None:
    """Neither the order of the support set nor that of unlabeled examples means anything."""
    near(logits(setting, reordered(setting.tasks.task(0).support)), logits(setting))
    if "unlabeled" in setting.algorithm.needs:
        columns = ("unlabeled_x", "unlabeled_y")
        given = {c: setting.tasks.tensors[c].flip(1) for c in columns if c in setting.tasks.tensors}
        near(logits(replace(setting, tasks=with_columns(setting.tasks, **given))), logits(setting))


def by_place(patch: pytest.MonkeyPatch) -> None:
    """Vertices that hear more of those that come first."""
    right = Adjacency.__call__

    def wrong(self, params, x, norm, out):
        found = right(self, params, x, norm, out) / (1 + torch.arange(x.shape[1]))
        return found / found.sum(2, keepdim=True)

    patch.setattr(Adjacency, "__call__", wrong)


def labels_by_place(patch: pytest.MonkeyPatch) -> None:
    """Labels of another vertex."""
    right = GNN.vertices

    def wrong(self, params, features, labels):
        return right(self, params, features, labels.sort().values)

    patch.setattr(GNN, "vertices", wrong)


@pytest.mark.parametrize("how", ["ignored", "vertices", "asked"])
def test_order_means_nothing(how: str):
    check_order(with_unlabeled(how))


@pytest.mark.parametrize("mistake", [by_place, labels_by_place])
def test_what_depends_on_order_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = make(CASE)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_order(setting)


def test_a_query_has_a_graph_of_its_own():
    setting = make(CASE)
    task, learner = setting.tasks.task(0), setting.algorithm
    ctx = setting.at(phase="test").task_ctx(0)
    (fitted,) = learner.adapt(setting.params, task.view(learner.needs), ctx)
    alone = learner.predict(fitted, task.query.without("y")[torch.tensor([1])], ctx).mean
    near(alone[0], logits(setting)[1])


# --- class means ----------------------------------------------------------------------------------


def check_class_means(patch: pytest.MonkeyPatch) -> None:
    """Where a vertex hears of its class alone, a convolution makes class means.

    The query hears of class 1 and nobody of the query. Theta passes on what is heard.
    """
    labels = torch.tensor([0, 1, 1, 0, 2])
    x = double("classes", len(labels) + 1, INPUTS)
    same = (labels[:, None] == labels).double()
    adjacency = torch.zeros(len(x), len(x), dtype=torch.float64)
    adjacency[:-1, :-1] = same / same.sum(1, keepdim=True)
    adjacency[-1, :-1] = same[1] / same[1].sum()
    patch.setattr(Adjacency, "__call__", lambda self, params, x, norm, out: adjacency[None])
    network = GraphNetwork("g", INPUTS, INPUTS, width=2, layers=0)
    params = in_double(network.init(Key.of("g")))
    eye = torch.eye(INPUTS, dtype=torch.float64)
    params["g.0.vertex.weight"] = torch.cat([torch.zeros_like(eye), eye], 1)
    params["g.0.vertex.bias"] = torch.zeros(INPUTS, dtype=torch.float64)
    found = network.last(params, x[None], OFF, {})[0]
    means = class_means(x[:-1], labels, 3)
    near(found[:-1], means[labels])
    near(found[-1], means[1])


def backwards(patch: pytest.MonkeyPatch) -> None:
    """Vertices are heard by those that they should hear."""
    patch.setattr(graph, "spread", lambda a, x: torch.cat([x, a.transpose(1, 2) @ x], 2))


def swapped(patch: pytest.MonkeyPatch) -> None:
    """What is heard before what is known."""
    patch.setattr(graph, "spread", lambda a, x: torch.cat([a @ x, x], 2))


def test_with_the_adjacency_of_classes_it_makes_class_means(monkeypatch: pytest.MonkeyPatch):
    check_class_means(monkeypatch)


@pytest.mark.parametrize("mistake", [backwards, swapped])
def test_another_convolution_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_class_means(monkeypatch)


# --- adjacencies ----------------------------------------------------------------------------------


def check_adjacency() -> None:
    """Rows sum to 1 without the vertex itself; only how much vertices differ counts."""
    adjacency = Adjacency("a", INPUTS, 4)
    params = in_double(adjacency.init(Key.of("a")))
    x = double("vertices", 2, VERTICES, INPUTS)
    found = adjacency(params, x, OFF, {})
    near(found.sum(2), torch.ones(2, VERTICES, dtype=torch.float64))
    assert not found.diagonal(dim1=1, dim2=2).any()
    assert bool((found + torch.eye(VERTICES) > 0).all())
    near(adjacency(params, x + 1, OFF, {}), found)
    near(adjacency(params, -x, OFF, {}), found)


def patched_softmax(patch: pytest.MonkeyPatch, wrong: Callable[[Tensor], Tensor]) -> None:
    right = Tensor.softmax

    def softmax(scores: Tensor, dim: int) -> Tensor:
        return wrong(scores) if scores.dim() == 3 else right(scores, dim)

    patch.setattr(Tensor, "softmax", softmax)


def over_columns(patch: pytest.MonkeyPatch) -> None:
    """Columns that sum to 1."""
    patched_softmax(patch, lambda scores: torch.softmax(scores, 1))


def with_itself(patch: pytest.MonkeyPatch) -> None:
    """A vertex that hears itself, too."""
    patched_softmax(patch, lambda scores: torch.softmax(scores.nan_to_num(neginf=0.0), 2))


def signed(patch: pytest.MonkeyPatch) -> None:
    """Differences with their sign."""
    patch.setattr(Tensor, "abs", lambda x: x)


def test_a_row_says_how_much_a_vertex_hears_of_others():
    check_adjacency()


@pytest.mark.parametrize("mistake", [over_columns, with_itself, signed])
def test_another_adjacency_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_adjacency()


# --- unlabeled examples ---------------------------------------------------------------------------


def test_unlabeled_examples_are_vertices_without_a_label():
    setting = with_unlabeled("vertices")
    learner, task = setting.algorithm, setting.tasks.task(0)
    (fitted,) = learner.adapt(setting.params, task.view(learner.needs), setting.task_ctx(0))
    vertices = fitted.known.x
    assert len(vertices) == len(task.support) + len(task.unlabeled)
    near(
        vertices[len(task.support) :, -WAYS:], torch.full((8, WAYS), 1 / WAYS, dtype=torch.float64)
    )
    few = logits(replace(make(CASE), params=setting.params))
    assert float((logits(setting) - few).abs().max()) > 1e-3


def other_labels(tasks: TaskBatch, rows: Tensor) -> TaskBatch:
    """With other labels of these unlabeled examples of the first task."""
    labels = tasks.tensors["unlabeled_y"].clone()
    labels[0, rows] = (labels[0, rows] + 2) % (WAYS + 1) - 1
    return with_columns(tasks, unlabeled_y=labels)


def asked_for(setting: Setting, patch: pytest.MonkeyPatch) -> list[int]:
    """The unlabeled examples of the first task whose labels are asked for, one by each graph."""
    seen: list[Tensor] = []
    right = Unlabeled.reveal

    def watched(self: Unlabeled, rows: Tensor) -> Tensor:
        seen.append(rows)
        return right(self, rows)

    with patch.context() as here:
        here.setattr(Unlabeled, "reveal", watched)
        setting.only(0).loop()
    assert len(seen) == 1
    rows = seen[0]
    assert len(rows) == len(setting.tasks.task(0).query)
    return [int(row) for row in rows]


def check_asked(setting: Setting, patch: pytest.MonkeyPatch) -> None:
    """Each graph asks for one label; that counts, and no other changes a bit of any gradient."""
    rows = asked_for(setting, patch)
    rest = torch.tensor([i for i in range(8) if i not in rows])
    assert len(rest)

    def gradients(tasks: TaskBatch) -> dict[str, Tensor]:
        return replace(setting, tasks=tasks).only(0).loop().gradients

    found = gradients(setting.tasks)
    unasked = gradients(other_labels(setting.tasks, rest))
    assert all(torch.equal(g, found[n]) for n, g in unasked.items())
    told = gradients(other_labels(setting.tasks, torch.tensor(rows)))
    assert any(not torch.equal(g, found[n]) for n, g in told.items())


def the_next_one(patch: pytest.MonkeyPatch) -> None:
    """The label of another example."""
    right = Unlabeled.reveal
    patch.setattr(Unlabeled, "reveal", lambda self, rows: right(self, (rows + 1) % 8))


def no_label(patch: pytest.MonkeyPatch) -> None:
    """An answer that is not listened to."""
    patch.setattr(GNN, "asked", lambda self, p, x, known: x.new_zeros(*x.shape[:2], self.ways))


@pytest.mark.parametrize("how", ["random", "asked"])
def test_one_label_is_asked_for(how: str, monkeypatch: pytest.MonkeyPatch):
    check_asked(with_unlabeled(how), monkeypatch)


@pytest.mark.parametrize("mistake", [the_next_one, no_label])
def test_a_wrong_answer_is_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    setting = with_unlabeled("asked")
    asked_for(setting, monkeypatch)
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_asked(setting, monkeypatch)


def test_an_answer_of_no_weight_leaves_the_semi_supervised_form():
    setting, plain = with_unlabeled("asked"), with_unlabeled("vertices")
    params = {**setting.params, "graph.asked.weight": torch.zeros((), dtype=torch.float64)}
    near(
        logits(replace(setting, params=params)),
        logits(replace(plain, params={n: params[n] for n in plain.params})),
    )


def test_attention_learns_by_the_label_that_was_asked_for():
    """Straight-through: the loss has the value of the choice, and its parameters a gradient."""
    gradients = with_unlabeled("asked").loop().gradients
    assert all(bool(gradients[f"graph.attention.{i}.weight"].any()) for i in (1, 2))


def test_draws_follow_the_shares():
    shares = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]], dtype=torch.float64)
    places = [gnn.drawn(shares, (torch.arange(1000)[i] + 0.5).double() / 1000) for i in range(1000)]
    counts = torch.stack([torch.stack(places) == place for place in range(3)]).sum(1).T
    assert int((counts - 1000 * shares).abs().max()) <= 1


def test_outside_training_the_preferred_one_is_asked_for():
    setting = with_unlabeled("asked")
    assert setting.at(phase="test").noise == [{}] * len(setting)
    random: Any = with_unlabeled("random").at(phase="test")
    assert all(set(one) == {"asked"} for one in random.noise)


# --- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [OFF, Norm("batch")], ids=lambda norm: norm.kind)
def test_graphs_have_second_derivatives_and_are_the_same_under_vmap(norm: Norm):
    network = GraphNetwork("g", 2, 1, width=2, layers=1)
    params = in_double(network.init(Key.of("second")))
    probed = ["g.0.edge.1.weight", "g.0.edge.score.weight", "g.0.vertex.weight", "g.1.edge.2.bias"]

    def outputs(x: Tensor, *tensors: Tensor) -> Tensor:
        given = {**params, **dict(zip(probed, tensors, strict=True))}
        return network.last(given, network.convolved(given, x, 0, norm, {}), norm, {})

    tensors = [params[name] for name in probed]
    given = [t.clone().requires_grad_() for t in (double("short", 1, 3, 2), *tensors)]
    assert torch.autograd.gradgradcheck(outputs, given, fast_mode=True)
    many = double("many", 3, 2, 4, 2)
    together = torch.func.vmap(lambda x: outputs(x, *tensors))(many)
    near(together, torch.stack([outputs(x, *tensors) for x in many]))
