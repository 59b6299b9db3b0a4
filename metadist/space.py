"""Declaration of a search space: what a search for hyper-parameters may try.

A space is data. It names a base recipe, the keys that are searched with their domains, keys that
are held at other values than the base's, and how long, by which searcher and with which scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from metadist.errors import SpaceError
from metadist.overrides import Scalar

Searcher = Literal["tpe", "random", "grid"]
Mode = Literal["max", "min"]
#: Values of one trial, by ``section.key``.
Point = dict[str, Scalar]

# Of every domain, ``problem`` says what is wrong with it (empty: nothing), ``points`` what a grid
# search tries.


@dataclass(frozen=True)
class LogUniform:
    """Numbers whose logarithm is uniform in [log low, log high].

    Attributes:
        grid: how many of them, evenly spaced in the logarithm, a grid search tries.
    """

    low: float
    high: float
    grid: int = 5

    def problem(self) -> str:
        if not (0 < self.low < self.high < math.inf):
            return f"0 < low < high is needed, got low {self.low!r} and high {self.high!r}"
        return _grid_problem(self.grid)

    def points(self) -> list[Scalar]:
        ratio = math.log(self.high / self.low)
        inner = [self.low * math.exp(ratio * i / (self.grid - 1)) for i in range(1, self.grid - 1)]
        return [self.low, *inner, self.high]


@dataclass(frozen=True)
class Uniform:
    """Numbers uniform in [low, high]; ``grid`` as in :class:`LogUniform`."""

    low: float
    high: float
    grid: int = 5

    def problem(self) -> str:
        if not (-math.inf < self.low < self.high < math.inf):
            return f"low < high is needed, got low {self.low!r} and high {self.high!r}"
        return _grid_problem(self.grid)

    def points(self) -> list[Scalar]:
        step = (self.high - self.low) / (self.grid - 1)
        return [self.low, *(self.low + step * i for i in range(1, self.grid - 1)), self.high]


@dataclass(frozen=True)
class Integers:
    """Whole numbers in [low, high], both possible; on a logarithmic scale with ``log``."""

    low: int
    high: int
    log: bool = False

    def problem(self) -> str:
        if not self.low < self.high or (self.log and self.low < 1):
            least = "1 <= low < high" if self.log else "low < high"
            return f"{least} is needed, got low {self.low!r} and high {self.high!r}"
        return ""

    def points(self) -> list[Scalar]:
        if not self.log:  # all of them, or the powers of two among them
            return list(range(self.low, self.high + 1))
        powers = [2**i for i in range(64) if self.low <= 2**i <= self.high]
        return [*powers] or [self.low, self.high]


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Scalar, ...]

    def __init__(self, *values: Scalar) -> None:
        object.__setattr__(self, "values", values)

    def problem(self) -> str:
        if len(self.values) < 2 or len({(type(v), v) for v in self.values}) < len(self.values):
            return f"two or more different values are needed, got {list(self.values)}"
        return ""

    def points(self) -> list[Scalar]:
        return list(self.values)


@dataclass(frozen=True)
class When:
    """A domain that counts only where another searched key has one of these values.

    Elsewhere the key keeps the base's value.
    """

    key: str
    values: tuple[Scalar, ...]
    then: LogUniform | Uniform | Integers | Choice

    def problem(self) -> str:
        return self.then.problem() if self.values else "values to wait for are needed, got none"

    def points(self) -> list[Scalar]:
        return self.then.points()


Domain = LogUniform | Uniform | Integers | Choice | When


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving (Li et al., 2020): at each rung the worse trials stop.

    Attributes:
        grace: validations before a trial may be stopped: the first rung.
        reduction: one in so many goes on to the next rung, which is so many times as far.
    """

    grace: int = 1
    reduction: int = 3


@dataclass(frozen=True)
class MedianStopping:
    """Stop what is worse than the median of the others' running averages (Golovin et al., 2017).

    Attributes:
        grace: validations before a trial may be stopped.
        trials: others that must have come as far.
    """

    grace: int = 1
    trials: int = 3


@dataclass(frozen=True)
class Population:
    """Population-based training (Jaderberg et al., 2017): a schedule of rates is searched.

    After every ``interval`` validations the worst trials take over parameters and rates of the best
    and change the rates: by one of ``factors``, or with probability ``resample`` to a value drawn
    anew.
    """

    interval: int = 1
    quantile: float = 0.25
    resample: float = 0.25
    factors: tuple[float, float] = (1.25, 0.8)


Scheduler = Asha | MedianStopping | Population


@dataclass(frozen=True)
class Space:
    """A search, ready to be run.

    Attributes:
        about: one line for people.
        base: name of the recipe that trials start from; its values are the default that the winner
            is compared with.
        search: domains by ``section.key``.
        fixed: values by ``section.key`` that trials and default have instead of the base's.
        metric: ``val/accuracy``, ``val/mse`` or ``val/`` and what else decides for the base's
            objective, on meta-validation episodes; never on test ones.
        mode: whether more or less of it is better.
        steps: outer steps of a trial that is not stopped: its budget.
        every: outer steps between validations, which is where a trial may be stopped.
        trials: how many; a grid has as many as it has points.
        searcher: ``tpe`` (tree-structured Parzen estimator; Bergstra et al., 2011), ``random`` or
            ``grid``.
        scheduler: who stops trials early; None: nobody.
    """

    about: str
    base: str
    search: Mapping[str, Domain]
    metric: str
    mode: Mode
    steps: int
    every: int
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    trials: int = 16
    searcher: Searcher = "tpe"
    scheduler: Scheduler | None = None

    def active(self, point: Mapping[str, Any]) -> Point:
        """A trial's values, without those whose condition is not met."""
        found: Point = {}
        for key, domain in self.search.items():
            # A condition on a key that does not count itself is not met.
            met = not isinstance(domain, When) or found.get(domain.key) in domain.values
            if key in point and met:
                found[key] = point[key]
        return found

    def grid(self) -> list[Point]:
        """All points of a grid search, in the order of the keys."""
        points: list[Point] = [{}]
        for key, domain in self.search.items():
            grown: list[Point] = []
            for point in points:
                if isinstance(domain, When) and point.get(domain.key) not in domain.values:
                    grown.append(point)
                else:
                    grown += [{**point, key: value} for value in domain.points()]
            points = grown
        return points

    def document(self) -> dict[str, Any]:
        """The space as JSON-able values."""
        order: dict[str, Any] = dict.fromkeys(("about", "base", "search", "fixed"))
        return order | {
            **vars(self),
            "search": {key: _document(domain) for key, domain in self.search.items()},
            "fixed": dict(self.fixed),
            "scheduler": None if self.scheduler is None else _document(self.scheduler),
        }


def _document(part: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return _document(value)
        return list(value) if isinstance(value, tuple) else value

    return {"kind": type(part).__name__, **{name: plain(v) for name, v in vars(part).items()}}


def _grid_problem(grid: int) -> str:
    return "" if grid >= 2 else f"a grid of two points or more is needed, got {grid!r}"


def check_shape(space: Space, name: str) -> None:
    """What can be wrong with a space whatever its recipe.

    Raises:
        SpaceError: it is; each problem is named.
    """
    problems = [] if space.search else ["nothing is searched"]
    keys = list(space.search)
    for index, (key, domain) in enumerate(space.search.items()):
        if problem := domain.problem():
            problems.append(f"{key}: {problem}")
        if isinstance(domain, When) and domain.key not in keys[:index]:
            problems.append(f"{key}: it waits for {domain.key!r}, which must be searched before it")
        if key in space.fixed:
            problems.append(f"{key}: both searched and fixed")
    for what, value in (("steps", space.steps), ("every", space.every), ("trials", space.trials)):
        if value < 1:
            problems.append(f"{what}: 1 or more is needed, got {value}")
    if space.every > 0 and space.steps % space.every:
        problems.append(
            f"steps: a multiple of every ({space.every}) is needed, so that the last step is "
            f"validated, got {space.steps}"
        )
    problems += _scheduler_problems(space)
    if problems:
        raise SpaceError(f"space {name}: {'; '.join(problems)}")


def _scheduler_problems(space: Space) -> list[str]:
    scheduler, problems = space.scheduler, []
    validations = space.steps // max(space.every, 1)
    for name in ("grace", "interval"):
        value = getattr(scheduler, name, 1)
        if not 0 < value <= validations:
            problems.append(
                f"scheduler: {name} counts validations, of which a trial has {validations} (steps "
                f"by every): 1 to {validations} are possible, got {value}"
            )
    if isinstance(scheduler, Asha) and scheduler.reduction < 2:
        problems.append(f"scheduler: a reduction of 2 or more is needed, got {scheduler.reduction}")
    if isinstance(scheduler, Population):
        if not 0 < scheduler.quantile <= 0.5:
            problems.append(f"scheduler: a quantile in (0, .5] is needed, got {scheduler.quantile}")
        if not 0 <= scheduler.resample <= 1 or min(scheduler.factors, default=0) <= 0:
            problems.append(
                "scheduler: resample in [0, 1] and factors above 0 are needed, got "
                f"{scheduler.resample} and {list(scheduler.factors)}"
            )
        if space.searcher != "random":
            problems.append(
                f"searcher: a population starts from random points, got {space.searcher!r}"
            )
        if odd := [key for key in space.search if key not in SCHEDULED]:
            problems.append(
                f"{', '.join(odd)}: a population changes rates only ({', '.join(SCHEDULED)})"
            )
        if odd := [k for k, d in space.search.items() if not isinstance(d, LogUniform | Uniform)]:
            problems.append(f"{', '.join(odd)}: a population needs LogUniform or Uniform")
    return problems


#: Keys whose values may change in mid-run.
SCHEDULED = ("inner.lr", "outer.lr")
