"""What the learners from outside should compute, written from their papers' equations.

One example after the other, without a line of theirs. They are no ``DEFINITIONS`` of the package's
algorithms; the tests that use the plug-ins put them there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.numerics.reference import (
    Definition,
    Episode,
    Moments,
    Noise,
    Normalisation,
    Reference,
    Tensors,
    derivative,
    leaves,
)


def encoded(
    learner: Reference, theta: Tensors, x: Tensor, norm: Normalisation
) -> tuple[list[Tensor], Normalisation]:
    """Features of each example, and the moments of the pass: the network's head is the identity."""
    weights = [n for n, p in theta.items() if n.endswith(".weight") and p.dim() > 1]
    width = len(theta[weights[-1]])
    head = f"linear{len(weights) + 1}" if weights[0].startswith("linear") else "head"
    identity = {
        f"{head}.weight": torch.eye(width, dtype=x.dtype),
        f"{head}.bias": torch.zeros(width, dtype=x.dtype),
    }
    outputs, moments = learner.net({**theta, **identity}, x, norm)
    return list(outputs), moments


def norms(learner: Reference, theta: Tensors, x: Tensor) -> tuple[Normalisation, Normalisation]:
    """Of passes over the support set x, and over other examples."""
    own: Normalisation = "off" if learner.norm == "none" else "batch"
    if learner.norm != "support":
        return own, own
    return own, encoded(learner, theta, x, "batch")[1]


def squared(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 of two vectors."""
    return ((a - b) ** 2).sum()


def log_probability(minus_logits: list[Tensor], chosen: int) -> Tensor:
    """log of exp(-d_chosen) / sum exp(-d)."""
    terms = [torch.exp(-d) for d in minus_logits]
    return torch.log(terms[chosen] / sum(terms[1:], start=terms[0]))


def mean(vectors: list[Tensor]) -> Tensor:
    """Their sum by their number."""
    return sum(vectors[1:], start=vectors[0]) / len(vectors)


def nearest_loss(queries: list[Tensor], labels: Tensor, prototypes: list[Tensor]) -> Tensor:
    """Minus the mean log-probability of the right class (Snell et al., equation 2)."""
    parts = [
        -log_probability([squared(f, c) for c in prototypes], int(y))
        for f, y in zip(queries, labels, strict=True)
    ]
    return mean(parts)


def prototypes(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """Snell, Swersky & Zemel, 2017, equations 1 and 2."""
    at = leaves(theta)
    own, other = norms(learner, at, task.support_x)
    support, _ = encoded(learner, at, task.support_x, own)
    classes = range(int(task.support_y.max()) + 1)
    centres = [
        mean([f for f, y in zip(support, task.support_y, strict=True) if y == k]) for k in classes
    ]
    queries, _ = encoded(learner, at, task.query_x, other)
    value = nearest_loss(queries, task.query_y, centres)
    return value.detach(), derivative(value, at)


def refined_prototypes(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """Ren et al., 2018, equations 2 and 3, and 4 to 6 with a cluster of distractors."""
    at = leaves(theta)
    network = {n: p for n, p in at.items() if not n.startswith("distractors.")}
    own, other = norms(learner, network, task.support_x)
    support, _ = encoded(learner, network, task.support_x, own)
    free, _ = encoded(learner, network, task.info["unlabeled_x"], other)
    ways = int(task.support_y.max()) + 1
    of_class = [
        [f for f, y in zip(support, task.support_y, strict=True) if y == k] for k in range(ways)
    ]
    centres = [mean(vectors) for vectors in of_class]
    for _ in range(learner.options["refinements"]):
        clusters = list(centres)
        radii = [torch.ones((), dtype=torch.float64)] * ways
        if learner.options["distractors"]:
            clusters.append(torch.zeros_like(centres[0]))
            radii.append(torch.exp(at["distractors.log_radius"][0]))
        z = []
        for f in free:
            terms = [
                # A(r) = log(2 pi) / 2 + log r
                torch.exp(
                    -squared(f, c) / r**2 - 0.5 * torch.log(2 * torch.tensor(torch.pi)) - r.log()
                )
                for c, r in zip(clusters, radii, strict=True)
            ]
            z.append([term / sum(terms[1:], start=terms[0]) for term in terms])
        refined = []
        for k in range(ways):
            above, below = sum(of_class[k]), torch.tensor(float(len(of_class[k])))
            for f, weights in zip(free, z, strict=True):
                above, below = above + weights[k] * f, below + weights[k]
            refined.append(above / below)
        centres = refined
    queries, _ = encoded(learner, network, task.query_x, other)
    value = nearest_loss(queries, task.query_y, centres)
    return value.detach(), derivative(value, at)


def set_prediction(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode
) -> list[tuple[Tensor, Tensor]]:
    """Mean and scale [E] of each query (Garnelo et al., 2018, section 3)."""

    def network(which: str, *inputs: Tensor) -> Tensor:
        own = {n.removeprefix(which): p for n, p in theta.items() if n.startswith(which)}
        return learner.net(own, torch.cat(inputs)[None], "off")[0][0]

    pairs = zip(task.support_x, task.support_y, strict=True)
    r = mean([network("encoder.", x, y) for x, y in pairs])
    assert len(r) == learner.options["representation"]
    found = []
    for x in task.query_x:
        outputs = network("decoder.", x, r)
        half, least = len(outputs) // 2, learner.options["least_scale"]
        scale = least + (1 - least) * torch.log(1 + torch.exp(outputs[half:]))
        found.append((outputs[:half], scale))
    return found


def set_regression(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """The learner's loss of the means, whatever the scales."""
    at = leaves(theta)
    means = torch.stack([m for m, _ in set_prediction(learner, at, task)])
    value = learner.loss(means, task.query_y)
    return value.detach(), derivative(value, at)


def heavy_ball(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> tuple[Tensor, Tensors]:
    """MAML with v_t = d v_{t-1} + g_t, phi_t = phi_{t-1} - lr v_t, written as one sum.

    v_t = sum over s of d^(t - s) g_s, so that no state is kept but the gradients.
    """
    at = leaves(theta)
    past: list[Tensors] = []

    def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        past.append(gradients)
        new = {}
        for name, p in adapted.items():
            decay = 1 / (1 + torch.exp(-at[f"rule.{name}.decay"]))
            terms = [decay ** (step - s) * g[name] for s, g in enumerate(past)]
            new[name] = p - learner.lr * sum(terms[1:], start=terms[0])
        return new

    *_, final = learner.path(at, task, graph=True, update=update)
    value = learner.query_loss(final, task)
    return value.detach(), derivative(value, at)


def residual(p: Tensors, x: Tensor, norm: Normalisation, step: int = 0) -> tuple[Tensor, Moments]:
    """The network of ``residual.py`` (He et al., 2016): outputs, and moments before each block's
    convolutions."""
    moments: Moments = {}

    def activated(layer: str, h: Tensor) -> Tensor:
        mean = h.mean(dim=(0, 2, 3))
        moments[layer] = mean, ((h - mean[None, :, None, None]) ** 2).mean(dim=(0, 2, 3))
        if norm != "off":
            m, v = moments[layer] if norm == "batch" else norm[layer]
            h = (h - m[None, :, None, None]) / torch.sqrt(v + 1e-3)[None, :, None, None]
        h = h * p[f"{layer}.scale"][None, :, None, None] + p[f"{layer}.shift"][None, :, None, None]
        return h * (h > 0)

    h = torch.conv2d(x, p["stem.weight"], stride=2, padding=1)
    for block in range(sum(n.endswith("conv1.weight") for n in p)):
        y = activated(f"block{block}.norm1", h)
        y = torch.conv2d(y, p[f"block{block}.conv1.weight"], padding=1)
        y = activated(f"block{block}.norm2", y)
        h = h + torch.conv2d(y, p[f"block{block}.conv2.weight"], padding=1)
    return h.mean(dim=(2, 3)) @ p["head.weight"].T + p["head.bias"], moments


PLUGINS: dict[str, Definition] = {
    "prototypes": prototypes,
    "refined_prototypes": refined_prototypes,
    "set_regression": set_regression,
    "heavy_ball": heavy_ball,
}
