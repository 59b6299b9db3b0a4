"""What no schema can say: rules with a name, a demand and what breaks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Subject = TypeVar("Subject")
Check = Callable[[Subject], Iterable[str]]


@dataclass(frozen=True)
class Problem:
    """A rule that is broken, and how."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


class Rules(Generic[Subject]):
    """Rules about one kind of subject. As a decorator it adds one, named as the function is."""

    def __init__(self) -> None:
        self._checks: dict[str, Check[Subject]] = {}

    def __call__(self, check: Check[Subject]) -> Check[Subject]:
        name = check.__name__.replace("_", "-")
        assert name not in self._checks
        assert check.__doc__, f"the rule {name} says nowhere what it demands"
        self._checks[name] = check
        return check

    @property
    def names(self) -> set[str]:
        return set(self._checks)

    def problems(self, subject: Subject) -> Iterator[Problem]:
        for name, check in self._checks.items():
            for text in check(subject):
                yield Problem(name, text)
