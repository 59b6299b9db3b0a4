"""What a learner that predicts in sequence is held to: what comes later is not known."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from metadist.contracts.differences import EXACT, distance
from metadist.contracts.finding import Finding, found
from metadist.contracts.settings import SEED, WAYS, Setting
from metadist.inner.blocks.sequence import PredictsSequences, order_noise, task_in_sequence
from metadist.tasks import Examples


def sequence(setting: Setting) -> Iterator[Finding]:
    """Each place is predicted without its label and what comes after it; nowhere else is looked at,
    as normalisation by all examples is one that is declared."""
    learner, now = setting.learner, setting.tested
    if not isinstance(learner, PredictsSequences):
        return
    shown = task_in_sequence(now.tasks.task(0), order_noise(SEED))

    def predicted(examples: Examples) -> Tensor:
        with torch.no_grad():
            mean = learner.sequence_predictions(now.params, examples, now.task_ctx(0)).mean
        # What has not come up may have no chance at all.
        return mean.where(mean > float("-inf"), 0.0)

    whole, size = predicted(shown), len(shown)
    if whole.shape not in ((size, WAYS), (size, WAYS + 1)):
        yield found(
            f"sequence_predictions() of {size} examples with logits [{size}, {WAYS}], or one "
            "column more for none of the ways",
            f"shape {list(whole.shape)}",
            "return a row for each example, in the order in which they are shown",
        )
        return
    if setting.where.norm in ("transductive", "support"):
        return
    for place in (0, size // 2, size - 1):
        labels, inputs = shown.y.clone(), shown.x.clone()
        labels[place:] = (labels[place:] + 1) % WAYS
        inputs[place + 1 :] = inputs[place + 1 :] + 1
        other = predicted(shown.with_x(inputs).with_y(labels))
        apart = distance({"": other[: place + 1]}, {"": whole[: place + 1]})
        if not apart <= EXACT:
            yield found(
                "sequence_predictions() of a place that depend on inputs up to it and on labels "
                "before it",
                f"others when what comes later is changed, at place {place} of {size}",
                "let the label of an example come with the next one "
                "(metadist.inner.blocks.sequence.one_later)",
            )
            return


CHECKS = (sequence,)
