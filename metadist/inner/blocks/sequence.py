"""A task as one sequence: its examples in a row, each with the label of the one before it.

Santoro, Bartunov, Botvinick, Wierstra & Lillicrap, "Meta-Learning with Memory-Augmented Neural
Networks", ICML 2016, section 2: support and query examples of a task are mixed and shown one after
the other, and each is to be told before its own label is shown, with the one after it:

    (x_1, -), (x_2, y_1), ..., (x_T, y_{T-1})  ->  predictions of y_1, ..., y_T

The order is drawn from the task's own key, so that it is the same wherever a task is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from metadist.context import Context
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import Examples, Params, Prediction, Task

#: Examples of a task that can be put in order.
LONGEST = 2048


@runtime_checkable
class PredictsSequences(Protocol):
    """A learner that predicts in sequence: each example before it is shown its label."""

    def sequence_predictions(self, params: Params, examples: Examples, ctx: Context) -> Prediction:
        """Of each of T examples in a row, by those before it and their labels.

        Args:
            examples: x [T, ...] and y int64 [T], in the order in which they are shown.

        Returns:
            Logits [T, N] of the ways, or [T, N + 1] with those of an answer that is none of them.
            Row t depends on x up to t and on y up to t - 1; with ``transductive`` and ``support``
            normalisation on all x.
        """


def order_noise(key: Key) -> Tensor:
    """What an order of up to :data:`LONGEST` examples is made of, float64 [LONGEST]."""
    return key.fold("sequence").uniform((LONGEST,), torch.float64)


def in_sequence(sets: Sequence[Examples], noise: Tensor) -> Examples:
    """The examples of all sets in a row.

    Args:
        sets: with x [n, ...] and y [n]; examples that do not count come last.
        noise: see :func:`order_noise`.

    Raises:
        RecipeError: there are more than :data:`LONGEST`.
    """
    size = sum(len(s) for s in sets)
    if size > LONGEST:
        raise RecipeError(
            f"a sequence of at most {LONGEST} examples is possible, the task has {size}; take "
            "fewer data.shots or data.queries (eval.shots, eval.queries, eval.extra_queries)"
        )
    places, mask = noise[:size], None
    if any(s.mask is not None for s in sets):
        mask = torch.cat([_counted(s) for s in sets])
        places = places + (~mask).to(places.dtype)
    order = places.argsort(stable=True)
    x, y = (torch.cat([getattr(s, column) for s in sets])[order] for column in ("x", "y"))
    return Examples(x, y, mask=None if mask is None else mask[order], name="query")


def task_in_sequence(task: Task, noise: Tensor) -> Examples:
    """Support and query examples of a task in a row, see :func:`in_sequence`."""
    return in_sequence([task.support, task.query], noise)


def one_later(codes: Tensor) -> Tensor:
    """Of each place [T, L] what stood before it; zeros at the first."""
    return torch.cat([torch.zeros_like(codes[:1]), codes[:-1]])


def _counted(examples: Examples) -> Tensor:
    if examples.mask is not None:
        return examples.mask
    return torch.ones_like(examples.y, dtype=torch.bool)
