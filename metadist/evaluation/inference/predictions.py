"""What a learner says of queries after adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metadist.errors import AdaptError
from metadist.statistics.format import number, percent

#: Most rows that are shown of predictions in words.
_ROWS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """Labels or values for Q queries.

    A learner that tells N classes apart has said ``labels``, ``probabilities`` and ``logits``, one
    of values ``mean`` and perhaps ``scale``; asking for the other's raises AdaptError.

    Attributes:
        outputs: float64 [Q, N] or [Q, E], as the learner has put them out.
        classes: the N labels of the support, sorted; columns of the outputs. Empty for values.
        scale: float64 [Q, E], the standard deviation, of learners that say one; else None.
        samples: float64 [M, Q, N] or [M, Q, E], M sampled outputs, of learners that have them;
            else None.
        notes: what to know of these predictions, in sentences.
    """

    outputs: NDArray[np.float64]
    classes: tuple[Any, ...] = ()
    scale: NDArray[np.float64] | None = None
    samples: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def logits(self) -> NDArray[np.float64]:
        """Outputs for the classes, [Q, N]."""
        if not self.classes:
            raise AdaptError(
                "labels, probabilities and logits are those of a learner that tells classes apart; "
                "this one predicts values: .mean"
            )
        return self.outputs

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """The softmax of the logits, [Q, N]."""
        powers = np.exp(self.logits - self.logits.max(1, keepdims=True))
        result: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return result

    @property
    def labels(self) -> tuple[Any, ...]:
        """The most probable label of each query."""
        return tuple(self.classes[way] for way in self.logits.argmax(1))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Predicted values, [Q, E]."""
        if self.classes:
            raise AdaptError(
                "mean is that of a learner of values; this one tells classes apart: .labels, "
                ".probabilities, .logits"
            )
        return self.outputs

    def __repr__(self) -> str:
        shown = range(min(len(self), _ROWS))
        head, columns = f"{len(self)} predictions", ["mean", "scale"]
        if self.classes:
            head += f" among {len(self.classes)} classes"
            labels, sure, columns = self.labels, self.probabilities.max(1), ["label", "probability"]
            rows = [[str(labels[row]), percent(sure[row])] for row in shown]
        else:
            values = [array for array in (self.mean, self.scale) if array is not None]
            rows = [[", ".join(map(number, array[row])) for array in values] for row in shown]
        table = [["", *columns[: len(rows[0])]], *([str(row), *rows[row]] for row in shown)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
        more = [f"… and {len(self) - len(shown)} more"] if len(self) > len(shown) else []
        return "\n".join([head, *lines, *more, *(f"Note: {note}" for note in self.notes)])
