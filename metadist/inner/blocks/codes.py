"""How the labels of a task are coded for networks that are fed them, and told what they answer.

``OneHot``: a unit for each way. ``Strings``: each way has a string of five letters out of five,
drawn anew in each task, as Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks",
ICML 2016, section 4.2, have labels of many classes; nothing then has the size of the number of
ways, and an answer may be a string that no way has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.objectives import Objective
from metadist.tasks import Examples, Prediction

#: Letters of a string, and of the alphabet.
LENGTH = LETTERS = 5
#: Different strings.
STRINGS = LETTERS**LENGTH


@dataclass(frozen=True)
class Codes(ABC):
    """Codes of N ways.

    Attributes:
        ways: N.
    """

    ways: int

    @property
    @abstractmethod
    def size(self) -> int:
        """L, numbers of a code, and of an answer."""

    @abstractmethod
    def noise(self, key: Key) -> dict[str, Tensor]:
        """Random numbers of a task's codes."""

    @abstractmethod
    def of_ways(self, noise: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """The code [N, L] of each way; in the type of ``like``."""

    @abstractmethod
    def logits(self, answers: Tensor, codes: Tensor) -> Tensor:
        """Logits [n, N] of answers [n, L]."""

    @abstractmethod
    def free_logits(self, answers: Tensor, codes: Tensor) -> Tensor:
        """The same, with one column more where an answer may be none of the ways."""

    @abstractmethod
    def loss(
        self, objective: Objective, answers: Tensor, codes: Tensor, target: Examples
    ) -> Tensor:
        """The objective's loss of answers [n, L] to examples."""


@dataclass(frozen=True)
class OneHot(Codes):
    """A unit for each way; answers are logits."""

    @property
    def size(self) -> int:
        return self.ways

    def noise(self, key: Key) -> dict[str, Tensor]:
        return {}

    def of_ways(self, noise: Mapping[str, Tensor], like: Tensor) -> Tensor:
        return torch.eye(self.ways, dtype=like.dtype, device=like.device)

    def logits(self, answers: Tensor, codes: Tensor) -> Tensor:
        return answers

    def free_logits(self, answers: Tensor, codes: Tensor) -> Tensor:
        return answers

    def loss(
        self, objective: Objective, answers: Tensor, codes: Tensor, target: Examples
    ) -> Tensor:
        return objective.loss(Prediction(answers), target)


@dataclass(frozen=True)
class Strings(Codes):
    """A string for each way, no two of them the same; answers are logits of each letter."""

    def __post_init__(self) -> None:
        if self.ways > STRINGS:
            raise RecipeError(
                f"algorithm.labels = 'strings': there are {STRINGS} strings of {LENGTH} letters, "
                f"{self.ways} ways were asked for; take fewer data.ways"
            )

    @property
    def size(self) -> int:
        return LENGTH * LETTERS

    def noise(self, key: Key) -> dict[str, Tensor]:
        return {"strings": key.fold("strings").uniform((STRINGS,), torch.float64)}

    def of_ways(self, noise: Mapping[str, Tensor], like: Tensor) -> Tensor:
        chosen = noise["strings"].argsort(stable=True)[: self.ways]
        letters = torch.stack([chosen // LETTERS**place % LETTERS for place in range(LENGTH)], 1)
        each = torch.arange(LETTERS, device=like.device)
        return (letters[:, :, None] == each).to(like.dtype).flatten(1)

    def logits(self, answers: Tensor, codes: Tensor) -> Tensor:
        """Logarithms of the probability of each way's string."""
        return self._letters(answers).flatten(1) @ codes.T

    def free_logits(self, answers: Tensor, codes: Tensor) -> Tensor:
        """With one more, which is the largest where the string that is spelled is of no way."""
        known = self.logits(answers, codes)
        best = self._letters(answers).argmax(2)
        each = torch.arange(LETTERS, device=answers.device)
        spelled = (best[:, :, None] == each).to(answers.dtype).flatten(1)
        # Compared as whole numbers: letters that the string of a way has in common with it.
        common = (spelled @ codes.T).amax(1, keepdim=True).round()
        top = known.amax(1, keepdim=True)
        return torch.cat([known, torch.where(common < LENGTH, top + 1, top - 1)], 1)

    def loss(
        self, objective: Objective, answers: Tensor, codes: Tensor, target: Examples
    ) -> Tensor:
        """That of each letter, as an example of its own."""
        letters = codes.reshape(-1, LENGTH, LETTERS).argmax(2)[target.y].flatten()
        mask = None if target.mask is None else target.mask.repeat_interleave(LENGTH)
        rows = answers.reshape(-1, LETTERS)
        return objective.loss(Prediction(rows), Examples(rows, letters, mask=mask, name="query"))

    @staticmethod
    def _letters(answers: Tensor) -> Tensor:
        """Logarithms of the probability of each letter at each place, [n, 5, 5]."""
        return F.log_softmax(answers.reshape(-1, LENGTH, LETTERS), 2)
