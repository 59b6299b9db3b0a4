"""What explains a run: what was learned, what adaptation changes, whether tasks pull together.

Computed once at the end, from the chosen checkpoint, on fixed episodes and by one worker: a
function of recipe and parameters like the figures themselves. ``docs/diagnostics.md`` says how to
read each number.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from data_pipeline.storage.local import write_atomic
from metadist.compute.learners import context, episode_key
from metadist.compute.strategies import Loop
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.learner import LearnedQuantities
from metadist.recipe.schema import Recipe
from metadist.runs.checkpoints import move
from metadist.runs.readers.diagnostics import FILE, MOST_NUMBERS
from metadist.runs.record import encode
from metadist.statistics.format import finite
from metadist.tasks import Params

log = logging.getLogger(__name__)

#: Test episodes on which features are compared before and after adaptation.
FEATURE_EPISODES = 8
#: Training tasks whose meta-gradients are compared.
GRADIENT_TASKS = 16
#: Most names of a quantity that become metrics of their own.
MOST_POINTS = 20

Numbers = dict[str, float]


def gram(features: Tensor) -> Tensor:
    """Inner products [n, n], float64, of the centred features [n, ...] of n examples."""
    x = features.detach().double().flatten(1)
    x = x - x.mean(0)
    return x @ x.T


def hsic(a: Tensor, b: Tensor) -> float:
    """Dependence of two representations from their Gram matrices [n, n], estimated without bias.

    HSIC_1 of Song, Smola, Gretton, Bedo & Borgwardt, "Feature Selection via Dependence
    Maximization", JMLR 2012. NaN for fewer than 4 examples.
    """
    n = len(a)
    if n < 4:
        return math.nan
    a, b = a - a.diag().diag(), b - b.diag().diag()
    rows = a.sum(0) @ b.sum(0)
    total = (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)
    return float(total) / (n * (n - 3))


def pooled_cka(grams: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Similarity of two representations x and y from the Gram matrices [n, n] of both on batches.

    Linear centred kernel alignment (Kornblith, Norouzi, Lee & Hinton, "Similarity of Neural Network
    Representations Revisited", ICML 2019, section 3), HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)),
    with each HSIC the mean of unbiased estimates over the batches (Nguyen, Raghu & Kornblith, "Do
    Wide and Deep Networks Learn the Same Things?", ICLR 2021). The textbook formula, which is
    biased, tends to 1 for any two representations that have more features than examples.

    Returns:
        1: equal up to rotation and a common scale; near 0, on either side: unrelated. NaN where a
        representation is constant or there are no batches.
    """
    xy = _mean([hsic(a, b) for a, b in grams])
    xx = _mean([hsic(a, a) for a, _ in grams])
    yy = _mean([hsic(b, b) for _, b in grams])
    # In this form it is exactly 1 for equal features.
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else math.nan


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def mean_cosine(products: Tensor) -> float:
    """Mean cosine between different vectors, from their inner products [t, t].

    Zero vectors have no direction and are left out; NaN where fewer than two are left.
    """
    lengths = products.diag().sqrt()
    kept = [i for i in range(len(lengths)) if lengths[i] > 0]
    pairs = itertools.combinations(kept, 2)
    return _mean([float(products[a, b] / (lengths[a] * lengths[b])) for a, b in pairs])


def feature_similarity(
    trained: TrainedLearner, source: EpisodeSource, steps: int
) -> tuple[Numbers, int]:
    """CKA of each layer's query activations before and after adaptation, in network order.

    1 means that adaptation leaves the layer's representation as it was: Raghu, Raghu, Bengio &
    Vinyals, "Rapid Learning or Feature Reuse?", ICLR 2020, figure 2.

    Args:
        steps: adaptation steps.

    Returns:
        By layer; empty for learners without layers to look into. And how many episodes were left
        out because an activation was not finite.
    """
    learner, part = trained.learner, source.identity.part
    tasks = trained.tasks(source, range(FEATURE_EPISODES))
    grams: dict[str, list[tuple[Tensor, Tensor]]] = {}
    failed = 0
    with torch.no_grad():
        for row, index in enumerate(tasks.ids):
            task = tasks.task(row)
            fitted, now = trained.fit(task, part, index, steps)
            query, ends = task.visible_query(learner.needs), (fitted[0], fitted[-1])
            before, after = (learner.activations(f, query, now) for f in ends)
            both = [*before.values(), *after.values()]
            finite_all = all(bool(torch.isfinite(a).all()) for a in both)
            failed += not finite_all
            for layer, features in before.items():
                found = grams.setdefault(layer, [])
                if finite_all:
                    found.append((gram(features).cpu(), gram(after[layer]).cpu()))
    return {layer: pooled_cka(pairs) for layer, pairs in grams.items()}, failed


def gradient_alignment(trained: TrainedLearner, source: EpisodeSource) -> tuple[Numbers, int]:
    """Mean cosine between the meta-gradients of different training tasks, by parameter.

    After the coherence of Guiroy, Verma & Pal, "Towards Understanding Generalization in
    Gradient-Based Meta-Learning", 2019; here of the gradients that training averages. ``all`` takes
    all parameters together.

    Returns:
        By parameter; empty for learners that are not trained. And how many tasks were left out
        because their gradient was not finite.
    """
    recipe, learner, params = trained.recipe, trained.learner, trained.params
    how = Loop()
    if learner.estimator == "none" or not params:
        return {}, 0
    ctx = replace(context(recipe, "train", recipe.outer.steps - 1), state=trained.state)
    tasks = trained.tasks(source, range(_gradient_tasks(recipe)))
    noise = [
        move(learner.noise(episode_key(recipe, "train", 0, i), ctx), trained.device)
        for i in tasks.ids
    ]
    if learner.step_scalar_names:
        table = how.step_scalars(learner, params, tasks, noise, ctx)
        table = table.to(getattr(torch, recipe.engine.dtype))
        ctx = replace(ctx, step_scalars=dict(zip(learner.step_scalar_names, table, strict=True)))
    each: list[Params] = []
    for row in range(len(tasks)):
        one = how.chunk(learner, params, tasks.slice(row, row + 1), noise[row : row + 1], ctx)
        if bool(one.finite.all()):
            each.append({name: g.cpu().flatten() for name, g in one.gradients.items()})
    products = {name: _products([g[name] for g in each]) for name in params}
    aligned = {name: mean_cosine(p) for name, p in products.items()}
    aligned["all"] = mean_cosine(torch.stack(list(products.values())).sum(0))
    return aligned, len(tasks) - len(each)


def _gradient_tasks(recipe: Recipe) -> int:
    """A bank of training episodes may be smaller."""
    bank = recipe.data.episodes
    return GRADIENT_TASKS if bank == "unlimited" else min(GRADIENT_TASKS, bank)


def _products(vectors: Sequence[Tensor]) -> Tensor:
    """Inner products [t, t], float64, of t vectors."""
    if not vectors:
        return torch.zeros(0, 0, dtype=torch.float64)
    rows = torch.stack(list(vectors)).double()
    return rows @ rows.T


def diagnose(
    trained: TrainedLearner,
    training: EpisodeSource,
    test: EpisodeSource,
    facts: Mapping[str, Any],
    trainee: TrainedLearner | None = None,
) -> dict[str, Any]:
    """Findings of a learner, similarity of features and alignment of gradients.

    Names stand in the order that ``trained.params`` has. What is not a finite number is None.

    Args:
        training, test: live episodes of the two parts.
        facts: what else the numbers depend on.
        trainee: the learner for training episodes, where they have other ways than test episodes.
    """
    steps = trained.recipe.inner.steps
    similarity, failed_episodes = feature_similarity(trained, test, steps)
    alignment, failed_tasks = gradient_alignment(trainee or trained, training)
    found = trained.learner.learned_quantities(
        {n: p.detach().cpu() for n, p in trained.params.items()}
    )
    captions = {name: list(texts) for name, texts in trained.learner.captions.items()}
    return {
        "findings": {
            quantity: {name: [finite(v) for v in values] for name, values in by_name.items()}
            for quantity, by_name in _few(found).items()
        },
        **({"captions": captions} if captions else {}),
        "feature_similarity": {layer: finite(v) for layer, v in similarity.items()},
        "gradient_alignment": {name: finite(v) for name, v in alignment.items()},
        "adaptation_steps": steps,
        "queries": test.identity.spec.queries,
        "episodes": FEATURE_EPISODES,
        "failed_episodes": failed_episodes,
        "tasks": _gradient_tasks(trained.recipe),
        "failed_tasks": failed_tasks,
        **facts,
    }


def _few(found: LearnedQuantities) -> LearnedQuantities:
    """The quantities that readers take: 1 to :data:`MOST_NUMBERS` numbers of each name."""
    kept = {}
    for quantity, by_name in found.items():
        odd = {n: len(v) for n, v in by_name.items() if not 0 < len(v) <= MOST_NUMBERS}
        if odd:
            name, count = next(iter(odd.items()))
            log.warning(
                "the learned quantity %s is left out of %s: %d numbers of %s, 1 to %d can be kept; "
                "give means or extremes of them",
                *(quantity, FILE, count, name, MOST_NUMBERS),
            )
        else:
            kept[quantity] = by_name
    return kept


def diagnostic_points(found: Mapping[str, Any]) -> Numbers:
    """The numbers that are few enough to be metrics: ``what_was_learned/<quantity>/<name>``.

    Findings with one number to each of at most :data:`MOST_POINTS` names; CKA as quantity ``cka``;
    of the cosines ``gradient_cosine/all`` alone. MLflow sorts its charts by name: these come after
    those of ``test``, ``train`` and ``val``.
    """
    if not found:
        return {}
    quantities: dict[str, Mapping[str, Sequence[float | None]]] = {
        **found["findings"],
        "cka": {layer: [v] for layer, v in found["feature_similarity"].items()},
        "gradient_cosine": {n: [v] for n, v in found["gradient_alignment"].items() if n == "all"},
    }
    return {
        f"what_was_learned/{quantity}/{name}": values[0]
        for quantity, by_name in quantities.items()
        if len(by_name) <= MOST_POINTS and all(len(v) == 1 for v in by_name.values())
        for name, values in by_name.items()
        if values[0] is not None
    }


def write_diagnostics(directory: Path, found: Mapping[str, Any]) -> None:
    """``evaluation/diagnostics.json``."""
    # Not sorted: layers stand in the order of the network.
    write_atomic(directory / FILE, encode(found, sort=False))
