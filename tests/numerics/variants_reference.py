"""What variants of MAML and Reptile should be: plain torch, from the papers' equations.

MAML++ (Antoniou et al., 2019), ANIL and NIL (Raghu et al., 2020), TAML (Jamal & Qi, 2019), MAML
with an input bias (Finn & Levine, 2018), Reptile (Nichol et al., 2018). Nothing here calls the code
under test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tests.numerics.reference import (
    Definition,
    Episode,
    Moments,
    Network,
    Noise,
    Normalisation,
    Prediction,
    Reference,
    Tensors,
    Update,
    derivative,
    leaves,
)

Result = tuple[Tensor, Tensors]

# --- MAML++ ---------------------------------------------------------------------------------------


def multi_step_weights(steps: int, epoch: int, annealed_over: int) -> list[float]:
    """v_1 ... v_T of the released code, the weights of an epoch.

    The early ones fall by 1 / (T E) an epoch, to 0.03 / T; the last one rises by (T - 1) / (T E).
    """
    uniform = 1 / steps
    early = max(uniform - epoch * (uniform / annealed_over), 0.03 / steps)
    last = uniform + epoch * ((steps - 1) * uniform / annealed_over)
    return [early] * (steps - 1) + [min(last, 1 - (steps - 1) * 0.03 / steps)]


def mamlpp(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Result:
    """MAML with every ingredient that the options switch on."""
    options, start = learner.options, leaves(theta)
    epoch = learner.step // options["epoch_steps"]

    def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        if not options["learned_step_sizes"]:
            return learner.descend(step, adapted, gradients)
        return {
            n: p - start[f"rule.{n}.step_sizes"][step] * gradients[n] for n, p in adapted.items()
        }

    graph = not options["first_order"] and epoch >= options["derivative_annealing_epochs"]
    phis = list(learner.path(start, task, graph=graph, update=update))
    if options["multi_step"] and epoch < options["multi_step_epochs"]:
        weights = multi_step_weights(learner.steps, epoch, options["multi_step_epochs"])
    else:
        weights = [0.0] * (learner.steps - 1) + [1.0]
    value = torch.zeros((), dtype=torch.float64)
    for step, weight in enumerate(weights, 1):
        # In the pass over queries after t updates, scales and shifts are those of update t.
        value = value + weight * learner.query_loss(phis[step], task, step - 1)
    return value.detach(), derivative(value, start)


# --- ANIL and NIL ---------------------------------------------------------------------------------


def head(theta: Mapping[str, Tensor]) -> str:
    """Name of the layer that is last in the network."""
    return [name for name in theta if name.endswith(".weight")][-1].removesuffix(".weight")


def anil(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Result:
    """MAML where the inner loop moves the last layer alone."""
    start, last = leaves(theta), head(theta)
    learner = replace(learner, adapted=lambda name: name.startswith(f"{last}."))
    *_, final = learner.path(start, task, graph=not learner.options["first_order"])
    value = learner.query_loss(final, task)
    return value.detach(), derivative(value, start)


def nil(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Tensor:
    """Cosines between what enters the last layer for a query and for the support of a class."""
    last, ways = head(theta), len(theta[f"{head(theta)}.bias"])
    width = theta[f"{last}.weight"].shape[1]
    # A network whose last layer is the identity gives what enters it.
    open_ended = {
        **theta,
        f"{last}.weight": torch.eye(width, dtype=torch.float64),
        f"{last}.bias": torch.zeros(width, dtype=torch.float64),
    }
    queries = learner.query_outputs(open_ended, task, 0)
    norm: Normalisation = "off" if learner.norm == "none" else "batch"
    support = learner.net(open_ended, task.support_x, norm, 0)[0]
    logits = torch.empty(len(queries), ways, dtype=torch.float64)
    for way in range(ways):
        members = support[task.support_y == way]
        if learner.options["compare"] == "means":
            members = members.mean(0, keepdim=True)
        for row, query in enumerate(queries):
            logits[row, way] = torch.stack([cosine(query, m) for m in members]).mean()
    return logits


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of the angle between two vectors; 0 where one is zero and has no direction."""
    lengths = a.norm() * b.norm()
    return a @ b / lengths if lengths > 0 else torch.zeros((), dtype=a.dtype)


# --- TAML -----------------------------------------------------------------------------------------


def inequality(losses: Tensor, options: Mapping[str, object]) -> Tensor:
    """I(l_1 ... l_B), from sums over tasks."""
    count, mean = len(losses), losses.sum() / len(losses)
    alpha, epsilon = options["alpha"], options["epsilon"]
    assert isinstance(alpha, float)
    assert isinstance(epsilon, float)
    ratios = [loss / mean for loss in losses]
    variant = options["variant"]
    if variant == "generalised_entropy" and alpha == 0:
        return -sum_of([torch.log(r) for r in ratios]) / count
    if variant == "theil" or (variant == "generalised_entropy" and alpha == 1):
        return sum_of([r * torch.log(r) for r in ratios]) / count
    if variant == "generalised_entropy":
        return sum_of([r**alpha - 1 for r in ratios]) / (count * alpha * (alpha - 1))
    if variant == "atkinson" and epsilon == 1:
        return 1 - torch.prod(losses) ** (1 / count) / mean
    if variant == "atkinson":
        power = sum_of([loss ** (1 - epsilon) for loss in losses]) / count
        return 1 - power ** (1 / (1 - epsilon)) / mean
    if variant == "gini":
        pairs = [(a - b).abs() for a in losses for b in losses]
        return sum_of(pairs) / (2 * count**2 * mean)
    assert variant == "variance_of_logs"
    geometric = torch.prod(losses) ** (1 / count)
    return sum_of([torch.log(loss / geometric) ** 2 for loss in losses]) / count


def sum_of(parts: Sequence[Tensor]) -> Tensor:
    """The sum of scalars."""
    return torch.stack(list(parts)).sum()


def shannon(logits: Tensor) -> Tensor:
    """Mean over rows of -sum p ln p."""
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    return -(p * torch.log(p)).sum(1).mean()


def before(learner: Reference, start: Tensors, task: Episode) -> Tensor:
    """A task's loss before adaptation, of which the inequality is taken."""
    if learner.options["losses"] == "query":
        return learner.query_loss(start, task, 0)
    return learner.support_loss(start, task, 0) / learner.scale


def adapted_loss(learner: Reference, start: Tensors, task: Episode) -> Tensor:
    """The task's loss but for an inequality, which is none of the task's own."""
    *_, final = learner.path(start, task, graph=not learner.options["first_order"])
    value = learner.query_loss(final, task)
    if learner.options["variant"] == "entropy":
        after, first = (learner.query_outputs(p, task, s) for p, s in ((final, None), (start, 0)))
        value = value + learner.options["weight"] * (shannon(after) - shannon(first))
    return value


def taml(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Result:
    """One task's part: over the tasks, values average to J + weight I, and gradients to its own."""
    start, weight = leaves(theta), learner.options["weight"]
    value = adapted_loss(learner, start, task)
    if learner.options["variant"] == "entropy" or weight == 0:
        return value.detach(), derivative(value, start)
    losses = learner.step_scalars["before"].double().clone().requires_grad_()
    total = inequality(losses, learner.options)
    (slopes,) = torch.autograd.grad(total, losses)
    own = before(learner, start, task)
    place = int((losses - own).abs().detach().argmin())
    gradient = derivative(value + weight * len(losses) * slopes[place] * own, start)
    return (value + weight * total).detach(), gradient


def whole_batch(
    learner: Reference, theta: Mapping[str, Tensor], tasks: Sequence[Episode]
) -> Result:
    """J + weight I of all tasks and its gradient, in one go."""
    start, options = leaves(theta), learner.options
    value = sum_of([adapted_loss(learner, start, task) for task in tasks]) / len(tasks)
    if options["variant"] != "entropy":
        losses = torch.stack([before(learner, start, task) for task in tasks])
        value = value + options["weight"] * inequality(losses, options)
    return value.detach(), derivative(value, start)


# --- an input bias --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Widened:
    """A network that sees the vector behind each example's own numbers or channels."""

    net: Network

    def __call__(
        self, p: Tensors, x: Tensor, norm: Normalisation, step: int = 0
    ) -> tuple[Tensor, Moments]:
        vector = p["input_bias"]
        rows = [
            torch.cat([example, torch.stack([torch.ones_like(example[0]) * b for b in vector])])
            for example in x
        ]
        return self.net(p, torch.stack(rows), norm, step)


def maml_input_bias(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> Result:
    """MAML in the widened network, whose vector is one of the adapted parameters."""
    start = leaves(theta)
    learner = replace(learner, net=Widened(learner.net))
    *_, final = learner.path(start, task, graph=True)
    value = learner.query_loss(final, task)
    return value.detach(), derivative(value, start)


# --- Reptile --------------------------------------------------------------------------------------


def orders(numbers: Sequence[float], count: int) -> Iterator[int]:
    """Examples by drawing each epoch's from a hat: a number says where in the row of the rest.

    The hat is Fisher and Yates': what is drawn changes places with the first that is left.
    """
    for at in range(0, len(numbers), count):
        hat = list(range(count))
        for first, number in enumerate(numbers[at : at + count]):
            chosen = first + math.floor(number * (count - first))
            hat[first], hat[chosen] = hat[chosen], hat[first]
            yield hat[first]


def adam(lr: float, beta1: float) -> Update:
    """Kingma & Ba's algorithm 1, for one task."""
    first: Tensors = {}
    second: Tensors = {}

    def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
        new = {}
        for name, p in adapted.items():
            g = gradients[name]
            first[name] = beta1 * first.get(name, torch.zeros_like(g)) + (1 - beta1) * g
            second[name] = 0.999 * second.get(name, torch.zeros_like(g)) + 0.001 * g**2
            m = first[name] / (1 - beta1 ** (step + 1))
            v = second[name] / (1 - 0.999 ** (step + 1))
            new[name] = p - lr * m / (torch.sqrt(v) + 1e-8)
        return new

    return update


def reptile_path(
    learner: Reference, theta: Mapping[str, Tensor], x: Tensor, y: Tensor, noise: Noise
) -> Tensors:
    """phi: plain training on mini-batches of x and y from theta."""
    options, phi = learner.options, leaves(theta)
    learned = options["inner_optimizer"] == "adam"
    update = adam(learner.lr, options["beta1"]) if learned else learner.descend
    order = list(orders(noise["order"].tolist(), len(x))) if "order" in noise else []
    size = len(order) // learner.steps if learner.steps else 0
    for step in range(learner.steps):
        rows = order[step * size : (step + 1) * size] or list(range(len(x)))
        batch = Episode(x[rows], y[rows], x[:0], y[:0])
        gradients = derivative(learner.support_loss(phi, batch, step), phi)
        phi = leaves(update(step, phi, gradients))
    return phi


def reptile(learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise) -> Result:
    """theta - phi of training on support and query as one set; the loss of phi on that set."""
    x, y = torch.cat([task.support_x, task.query_x]), torch.cat([task.support_y, task.query_y])
    phi = reptile_path(learner, theta, x, y, noise)
    whole = Episode(x, y, x[:0], y[:0])
    loss = learner.support_loss(phi, whole, learner.steps) / learner.scale
    return loss.detach(), {name: (p - phi[name]).detach() for name, p in theta.items()}


def reptile_outputs(
    learner: Reference, theta: Mapping[str, Tensor], task: Episode, noise: Noise
) -> Tensor:
    """Queries after training on the support alone."""
    phi = reptile_path(learner, theta, task.support_x, task.support_y, noise)
    return learner.query_outputs(phi, task).detach()


DEFINITIONS: dict[str, Definition] = {
    "mamlpp": mamlpp,
    "anil": anil,
    "nil": anil,
    "taml": taml,
    "maml_input_bias": maml_input_bias,
    "reptile": reptile,
}
PREDICTIONS: dict[str, Prediction] = {"nil": nil, "reptile": reptile_outputs}
