"""Meta-SGD, Meta-Curvature, T-net and MT-net against what their papers derive, in float64.

Each statement is also made of a learner with an obvious mistake, and must then fail.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiers import one_in
from torch import Tensor

from metadist.algorithms import meta_curvature
from metadist.algorithms.meta_curvature import mode_products
from metadist.algorithms.mtnet import Masks
from metadist.algorithms.tnet import Transformed
from metadist.backbones import Output
from metadist.backbones.mlp import MLP
from metadist.compute.strategies import ChunkResult, Loop, Vmap
from metadist.context import Context
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import Chain
from metadist.tasks import Params
from tests.numerics.preconditioning_models import CONV, KEY, LR, TASKS, Model, mlp, noticed, shaken
from tests.numerics.preconditioning_reference import (
    composed,
    numpy_curved,
    preconditioned_descent,
)
from tests.numerics.reference import CLOSED_FORM, Tensors, derivative, distance, leaves

MODELS = {"mlp": mlp(2), "conv4": CONV}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def draws_of(learner: InnerLoop, ctx: Context) -> list[dict[str, Tensor]]:
    return [learner.noise(KEY.fold("draws", i), ctx) for i in range(TASKS)]


# --- with nothing learned, all of them are MAML ---------------------------------------------------

ALL_OFF: list[tuple[str, dict[str, Any]]] = [
    ("meta_sgd", {}),
    ("meta_curvature", {}),
    ("meta_curvature", {"variant": "mc1"}),
    ("meta_curvature", {"bias": "matrix"}),
    ("meta_curvature", {"adapt_norm": True}),
    ("tnet", {}),
    ("mtnet", {}),
    ("mtnet", {"transform": False}),
    ("mtnet", {"mask_per": "weight", "adapt_norm": True}),
]
each_off = pytest.mark.parametrize(
    ("algorithm", "options"), ALL_OFF, ids=lambda x: x if isinstance(x, str) else "-".join(x)
)


def neutral(name: str, p: Tensor) -> Tensor:
    """Parameters of a rule with which it is gradient descent."""
    if name.endswith(".step_size"):
        return torch.full(p.shape, LR, dtype=torch.float64)
    if name.endswith(".logits"):
        return torch.full(p.shape, 1e6, dtype=torch.float64)
    return p.double()


def both(
    model: Model, algorithm: str, options: dict[str, Any]
) -> dict[str, tuple[ChunkResult, ChunkResult]]:
    """Gradients of a learner with nothing learned and of MAML, on each way."""
    maml, ctx = model.learner("maml", 3, adapt_norm=options.get("adapt_norm", False))
    theta = shaken(maml.init(KEY))
    learner, _ = model.learner(algorithm, 3, **options)
    params = {n: neutral(n, p) for n, p in learner.init(KEY).items()} | theta
    tasks, noise = model.tasks(), draws_of(learner, ctx)
    empty: list[dict[str, Tensor]] = [{}] * TASKS
    return {
        "loop": (
            Loop().chunk(learner, params, tasks, noise, ctx),
            Loop().chunk(maml, theta, tasks, empty, ctx),
        ),
        "vmap": (
            Vmap(TASKS).chunk(learner, params, tasks, noise, ctx),
            Vmap(TASKS).chunk(maml, theta, tasks, empty, ctx),
        ),
    }


def check_is_maml(results: dict[str, tuple[ChunkResult, ChunkResult]]) -> None:
    got, wanted = results["loop"]
    assert torch.equal(got.metrics["loss"], wanted.metrics["loss"])
    for name, g in wanted.gradients.items():
        assert torch.equal(got.gradients[name], g), name
    got, wanted = results["vmap"]
    torch.testing.assert_close(
        got.metrics["loss"], wanted.metrics["loss"], rtol=CLOSED_FORM, atol=0
    )
    of_theta = {name: got.gradients[name] for name in wanted.gradients}
    assert distance(of_theta, wanted.gradients) <= CLOSED_FORM


@each_off
@pytest.mark.parametrize("model", one_in(3, MODELS.values()), ids=MODELS)
def test_with_nothing_learned_it_is_maml_to_the_last_bit(
    model: Model, algorithm: str, options: dict[str, Any]
):
    check_is_maml(both(model, algorithm, options))


@pytest.mark.parametrize("algorithm", one_in(4, ["mtnet", "meta_sgd", "meta_curvature", "tnet"]))
def test_a_dropped_graph_is_noticed(algorithm: str, monkeypatch: pytest.MonkeyPatch):
    right = both(CONV, algorithm, {})

    plain = Context.grad

    def constant(self, loss, params, *, second_order=False):
        return plain(self, loss, params, second_order=False)

    monkeypatch.setattr(Context, "grad", constant)
    wrong = both(CONV, algorithm, {})
    for mode, (_, maml) in right.items():
        with noticed():
            check_is_maml({**right, mode: (wrong[mode][0], maml)})


# --- T-net: the metric T T' -----------------------------------------------------------------------


def adapted(learner: InnerLoop, params: Params, model: Model, ctx: Context) -> Tensors:
    """The network after adaptation, in terms of A = T W."""
    task = model.tasks().task(0)
    with torch.no_grad():
        last = learner.adapt(params, task, ctx)[-1]
    return composed(last.params)


def check_metric(
    model: Model, steps: int, learner: InnerLoop, params: Params, ctx: Context, metric: Tensors
) -> None:
    """Adaptation is preconditioned descent on A."""
    start = composed(params)
    wanted = preconditioned_descent(model.reference(steps), start, model.episode(), metric)
    assert distance(wanted, start) > 1e-3
    assert distance(adapted(learner, params, model, ctx), wanted) <= CLOSED_FORM


def tnet(model: Model, steps: int) -> tuple[InnerLoop, Params, Context, Tensors]:
    learner, ctx = model.learner("tnet", steps)
    params = shaken(learner.init(KEY))
    transforms = {n.split(".")[0]: t for n, t in params.items() if n.endswith(".transform")}
    assert set(transforms) == {layer.name for layer in learner.backbone.layers}
    return learner, params, ctx, {n: t @ t.T for n, t in transforms.items()}


@pytest.mark.parametrize(
    ("model", "steps"), [(mlp(1), 1), (CONV, 1), (mlp(2), 3)], ids=["fc", "conv", "three layers"]
)
def test_a_tnet_descends_with_the_metric_of_its_transforms(model: Model, steps: int):
    learner, params, ctx, metric = tnet(model, steps)
    check_metric(model, steps, learner, params, ctx, metric)


def test_a_transform_behind_the_nonlinearity_is_noticed(monkeypatch: pytest.MonkeyPatch):
    learner, params, ctx, metric = tnet(mlp(2), 3)

    def late(self, params, x, norm, **how):
        for i in (1, 2, 3):
            x = F.linear(x, params[f"linear{i}.weight"], params[f"linear{i}.bias"])
            x = F.linear(x if i == 3 else F.relu(x), params[f"linear{i}.transform"])
        return Output(x, x, {}, {})

    monkeypatch.setattr(MLP, "forward", late)
    with noticed():
        check_metric(mlp(2), 3, learner, params, ctx, metric)


def test_a_transposed_transform_is_noticed(monkeypatch: pytest.MonkeyPatch):
    learner, params, ctx, metric = tnet(CONV, 1)
    right = Transformed.forward

    def transposed(self, params, x, norm, **how):
        turned = {n: p.T if n.endswith(".transform") else p for n, p in params.items()}
        return right(self, turned, x, norm, **how)

    monkeypatch.setattr(Transformed, "forward", transposed)
    with noticed():
        check_metric(CONV, 1, learner, params, ctx, metric)


# --- MT-net: the metric T_M' T_M ------------------------------------------------------------------


def mtnet(model: Model, steps: int) -> tuple[InnerLoop, Params, Context, Tensors]:
    """An MT-net, and the metric by hand: T_M is T' without the rows of masked units."""
    learner, ctx = model.learner("mtnet", steps)
    params = shaken(learner.init(KEY))
    ctx = ctx.for_task(learner.noise(KEY.fold("task"), ctx))
    metric = {}
    for layer in learner.backbone.layers:
        noise = ctx.noise[f"{layer.name}.0"]
        kept = params[f"rule.{layer.name}.logits"] + noise[0] > noise[1]
        rows = params[f"{layer.name}.transform"].T.clone()
        rows[~kept] = 0
        metric[layer.name] = rows.T @ rows
    return learner, params, ctx, metric


@each_model
def test_an_mtnet_descends_in_a_subspace_with_a_metric(model: Model):
    learner, params, ctx, metric = mtnet(model, 3)
    ranks = [int(torch.linalg.matrix_rank(m)) for m in metric.values()]
    assert 0 < sum(ranks) < sum(len(m) for m in metric.values())
    check_metric(model, 3, learner, params, ctx, metric)


@each_model
def test_a_mask_for_each_weight_is_noticed(model: Model):
    learner, params, ctx, metric = mtnet(model, 3)
    assert isinstance(learner.optimizer, Chain)
    masks, descent = learner.optimizer.parts
    assert isinstance(masks, Masks)
    wrong = replace(learner, optimizer=Chain((replace(masks, per="weight"), descent)))
    more = {n: p.double() for n, p in wrong.init(KEY).items() if n.startswith("rule.")}
    ctx = ctx.for_task(wrong.noise(KEY.fold("task"), ctx))
    with noticed():
        check_metric(model, 3, wrong, {**params, **more}, ctx, metric)


# --- Meta-Curvature: Kronecker products -----------------------------------------------------------

ModeProducts = Callable[[Tensor, Tensor | None, Tensor, Tensor | None], Tensor]


def swapped(g: Tensor, out: Tensor | None, inward: Tensor, kernel: Tensor | None) -> Tensor:
    """The mistake: input and output side exchanged, where shapes allow it."""
    if out is None or out.shape != inward.shape:
        return mode_products(g, out, inward, kernel)
    return mode_products(g, inward, out, kernel)


def check_kronecker(products: ModeProducts, shape: tuple[int, ...]) -> None:
    g = KEY.fold("g").normal(shape, torch.float64)
    sizes = {"out": shape[0], "in": shape[1], "kernel": math.prod(shape[2:])}
    m = {axis: KEY.fold(axis).normal((n, n), torch.float64) for axis, n in sizes.items()}
    if sizes["kernel"] == 1:
        m["kernel"] = torch.ones(1, 1, dtype=torch.float64)
    got = products(g, m["out"], m["in"], m["kernel"] if sizes["kernel"] > 1 else None).numpy()
    out, inward, kernel = (m[axis].numpy() for axis in ("out", "in", "kernel"))
    whole = np.kron(np.kron(out, inward), kernel) @ g.numpy().reshape(-1)
    wanted = [whole]
    for order in itertools.permutations(sizes):
        box = g.numpy().reshape(tuple(sizes.values()))
        wanted.append(numpy_curved(box, out, inward, kernel, order).reshape(-1))
    for one in wanted:
        np.testing.assert_allclose(got.reshape(-1), one, rtol=0, atol=CLOSED_FORM * abs(one).max())


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (5, 2, 2, 3), (3, 4, 5), (4, 4), (3, 6)], ids=str)
def test_mode_products_are_the_kronecker_product_in_any_order(shape: tuple[int, ...]):
    check_kronecker(mode_products, shape)


def test_mc1_leaves_the_output_side_alone():
    check_kronecker(
        lambda g, out, inward, kernel: torch.einsum(
            "pa,a...->p...", out, mode_products(g, None, inward, kernel)
        ),
        (4, 3, 3, 3),
    )


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (4, 4)], ids=str)
def test_swapped_sides_are_noticed(shape: tuple[int, ...]):
    with noticed():
        check_kronecker(swapped, shape)


def one_step(
    model: Model, algorithm: str, **options: Any
) -> tuple[Params, dict[str, tuple[Tensor, Tensor]]]:
    """The meta-gradient after a step of a rule that still is gradient descent with LR; and of each
    adapted parameter its support gradient before and query gradient after that step."""
    learner, ctx = model.learner(algorithm, 1, **options)
    theta = shaken(model.learner("maml", 1)[0].init(KEY))
    params = {n: neutral(n, p) for n, p in learner.init(KEY).items()} | theta
    got = Loop().chunk(learner, params, model.tasks().slice(0, 1), [{}], ctx).gradients

    reference, task = model.reference(1), model.episode()
    start = leaves(theta)
    support = derivative(reference.support_loss(start, task, 0), start)
    *_, last = reference.path(leaves(theta), task, graph=False)
    end = leaves(last)
    query = derivative(reference.query_loss(end, task), end)
    return got, {n: (support[n], query[n]) for n in theta if reference.adapted(n)}


def check_curvature_gradients(model: Model, bias: str) -> None:
    got, pairs = one_step(model, "meta_curvature", bias=bias)
    wanted = {}
    for name, (s, q) in pairs.items():
        if s.dim() == 1:
            wanted[f"rule.{name}.{bias}"] = -LR * (q * s if bias == "vector" else torch.outer(q, s))
            continue
        flat = s.reshape(*s.shape[:2], -1), q.reshape(*s.shape[:2], -1)
        for axis, place in enumerate(("out", "in", "kernel")[: 3 if s.dim() > 2 else 2]):
            unfolded_s, unfolded_q = (x.movedim(axis, 0).flatten(1) for x in flat)
            wanted[f"rule.{name}.{place}"] = -LR * unfolded_q @ unfolded_s.T
    assert distance({n: g for n, g in got.items() if n.startswith("rule.")}, wanted) <= CLOSED_FORM


@pytest.mark.parametrize("bias", ["vector", "matrix"])
@each_model
def test_curvature_learns_from_query_times_support_gradients(model: Model, bias: str):
    check_curvature_gradients(model, bias)


def test_swapped_sides_are_noticed_in_the_meta_gradient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(meta_curvature, "mode_products", swapped)
    for model in MODELS.values():
        with noticed():
            check_curvature_gradients(model, "vector")


@each_model
def test_step_sizes_learn_from_query_times_support_gradients(model: Model):
    got, pairs = one_step(model, "meta_sgd")
    wanted = {f"rule.{n}.step_size": -q * s for n, (s, q) in pairs.items()}
    assert distance({n: g for n, g in got.items() if n.startswith("rule.")}, wanted) <= CLOSED_FORM
