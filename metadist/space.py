"""Declaration of a search space: what a search for hyper-parameters may try.

A space is data. It names a base recipe, the keys that are searched with their domains, keys that
are held at other values than the base's, and how long, by which searcher and with which scheduler.
Whoever writes one, or alters the record of one, may write anything: nothing is looked at when a
part is made, and all of it, with every mistake named, by :func:`check_space`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from metadist.discovery import explain
from metadist.errors import SpaceError
from metadist.overrides import Scalar

Searcher = Literal["tpe", "random", "grid"]
Mode = Literal["max", "min"]
#: Values of one trial, by ``section.key``.
Point = dict[str, Scalar]


def _scalar(value: Any) -> Any:
    if not isinstance(value, Scalar):
        raise ValueError("a number, text or truth value is needed")
    return value


def _metric(value: str) -> str:
    if not re.fullmatch(r"val/[a-zA-Z0-9_.-]{1,80}", value):
        raise ValueError("as 'val/accuracy' or 'val/mse'")
    return value


_Real = Annotated[float, Strict()]
_Whole = Annotated[int, Strict()]
_Count = Annotated[_Whole, Field(ge=1)]
_Grid = Annotated[_Whole, Field(ge=2)]
_Text = Annotated[str, Strict()]
_Value = Annotated[Scalar, BeforeValidator(_scalar)]


class _Part:
    """A part of a space; ``kind`` tells it apart from others in a record."""

    __pydantic_config__: ClassVar = ConfigDict(
        extra="forbid", allow_inf_nan=False, revalidate_instances="always"
    )


def _part(value: Any) -> Any:
    if not isinstance(value, _Part | dict):
        raise ValueError("a part of metadist.space is needed, as LogUniform(1e-3, 1.0) or Asha()")
    return value


# Of every domain, ``points`` says what a grid search tries.


@dataclass(frozen=True)
class LogUniform(_Part):
    """Numbers whose logarithm is uniform in [log low, log high].

    Attributes:
        grid: how many of them, evenly spaced in the logarithm, a grid search tries.
    """

    kind: Literal["LogUniform"] = field(default="LogUniform", kw_only=True, repr=False)
    low: _Real
    high: _Real
    grid: _Grid = 5

    @model_validator(mode="after")
    def _ordered(self) -> LogUniform:
        return _ordered(self, 0 < self.low < self.high, "0 < low < high")

    def points(self) -> list[Scalar]:
        ratio = math.log(self.high / self.low)
        inner = [self.low * math.exp(ratio * i / (self.grid - 1)) for i in range(1, self.grid - 1)]
        return [self.low, *inner, self.high]


@dataclass(frozen=True)
class Uniform(_Part):
    """Numbers uniform in [low, high]; ``grid`` as in :class:`LogUniform`."""

    kind: Literal["Uniform"] = field(default="Uniform", kw_only=True, repr=False)
    low: _Real
    high: _Real
    grid: _Grid = 5

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        return _ordered(self, self.low < self.high, "low < high")

    def points(self) -> list[Scalar]:
        step = (self.high - self.low) / (self.grid - 1)
        return [self.low, *(self.low + step * i for i in range(1, self.grid - 1)), self.high]


@dataclass(frozen=True)
class Integers(_Part):
    """Whole numbers in [low, high], both possible; on a logarithmic scale with ``log``."""

    kind: Literal["Integers"] = field(default="Integers", kw_only=True, repr=False)
    low: _Whole
    high: _Whole
    log: Annotated[bool, Strict()] = False

    @model_validator(mode="after")
    def _ordered(self) -> Integers:
        if self.log:
            return _ordered(self, 1 <= self.low < self.high, "1 <= low < high")
        return _ordered(self, self.low < self.high, "low < high")

    def points(self) -> list[Scalar]:
        if not self.log:  # all of them, or the powers of two among them
            return list(range(self.low, self.high + 1))
        powers = [2**i for i in range(64) if self.low <= 2**i <= self.high]
        return [*powers] or [self.low, self.high]


@dataclass(frozen=True)
class Choice(_Part):
    """One of some values."""

    kind: Literal["Choice"] = field(default="Choice", kw_only=True, repr=False)
    values: tuple[_Value, ...]

    def __init__(self, *values: Scalar) -> None:
        object.__setattr__(self, "kind", "Choice")
        object.__setattr__(self, "values", values)

    @model_validator(mode="after")
    def _differ(self) -> Choice:
        if len(self.values) < 2 or len({(type(v), v) for v in self.values}) < len(self.values):
            raise ValueError(f"two or more different values are needed, got {list(self.values)}")
        return self

    def points(self) -> list[Scalar]:
        return list(self.values)


@dataclass(frozen=True)
class When(_Part):
    """A domain that counts only where another searched key has one of these values.

    Elsewhere the key keeps the base's value.
    """

    kind: Literal["When"] = field(default="When", kw_only=True, repr=False)
    key: _Text
    values: Annotated[tuple[_Value, ...], Field(min_length=1)]
    then: Annotated[
        LogUniform | Uniform | Integers | Choice,
        Field(discriminator="kind"),
        BeforeValidator(_part),
    ]

    def points(self) -> list[Scalar]:
        return self.then.points()


Domain = LogUniform | Uniform | Integers | Choice | When
_Domain = Annotated[Domain, Field(discriminator="kind"), BeforeValidator(_part)]


@dataclass(frozen=True)
class Asha(_Part):
    """Asynchronous successive halving (Li et al., 2020): at each rung the worse trials stop.

    Attributes:
        grace: validations before a trial may be stopped: the first rung.
        reduction: one in so many goes on to the next rung, which is so many times as far.
    """

    kind: Literal["Asha"] = field(default="Asha", kw_only=True, repr=False)
    grace: _Whole = 1
    reduction: Annotated[_Whole, Field(ge=2)] = 3


@dataclass(frozen=True)
class MedianStopping(_Part):
    """Stop what is worse than the median of the others' running averages (Golovin et al., 2017).

    Attributes:
        grace: validations before a trial may be stopped.
        trials: others that must have come as far.
    """

    kind: Literal["MedianStopping"] = field(default="MedianStopping", kw_only=True, repr=False)
    grace: _Whole = 1
    trials: _Whole = 3


@dataclass(frozen=True)
class Population(_Part):
    """Population-based training (Jaderberg et al., 2017): a schedule of rates is searched.

    After every ``interval`` validations the worst trials take over parameters and rates of the best
    and change the rates: by one of ``factors``, or with probability ``resample`` to a value drawn
    anew.
    """

    kind: Literal["Population"] = field(default="Population", kw_only=True, repr=False)
    interval: _Whole = 1
    quantile: Annotated[_Real, Field(gt=0, le=0.5)] = 0.25
    resample: Annotated[_Real, Field(ge=0, le=1)] = 0.25
    factors: Annotated[tuple[Annotated[_Real, Field(gt=0)], ...], Field(min_length=1)] = (1.25, 0.8)


Scheduler = Asha | MedianStopping | Population
_Scheduler = Annotated[Scheduler, Field(discriminator="kind"), BeforeValidator(_part)]


@dataclass(frozen=True)
class Space(_Part):
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

    about: _Text
    base: _Text
    search: Mapping[str, _Domain]
    metric: Annotated[_Text, AfterValidator(_metric)]
    mode: Mode
    steps: _Count
    every: _Count
    fixed: Mapping[str, _Value] = field(default_factory=dict)
    trials: _Count = 16
    searcher: Searcher = "tpe"
    scheduler: _Scheduler | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Space:
        if problems := [*_problems(self)]:
            raise ValueError("; ".join(problems))
        return self

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
        """The space as JSON-able values; :func:`check_space` reads it back."""
        written: dict[str, Any] = _SPACE.dump_python(self, mode="json")
        return written


_SPACE = TypeAdapter(Space)
#: Steps on the way to a mistake that its reader does not know: they are pydantic's.
_OWN = {kind.__name__ for kind in (*get_args(Domain), *get_args(Scheduler))}


def check_space(space: object, name: str) -> Space:
    """A space whose values are of the types that it says and make sense together.

    Args:
        space: a Space, or the document of one.

    Raises:
        SpaceError: one does not; each is named.
    """
    try:
        return _SPACE.validate_python(space)
    except ValidationError as error:
        raise SpaceError(f"space {name}: {explain(error, place=_place)}") from None


def _place(steps: tuple[int | str, ...]) -> str:
    known = steps[1:] if len(steps) > 1 and steps[0] == "search" else steps
    return ": ".join(str(step) for step in known if step not in _OWN)


_Ordered = TypeVar("_Ordered", LogUniform, Uniform, Integers)


def _ordered(domain: _Ordered, good: bool, needed: str) -> _Ordered:
    if not good:
        raise ValueError(f"{needed} is needed, got low {domain.low!r} and high {domain.high!r}")
    return domain


def _problems(space: Space) -> Iterator[str]:
    """What is wrong with a space of which each value makes sense by itself."""
    if not space.search:
        yield "nothing is searched"
    keys = list(space.search)
    for index, (key, domain) in enumerate(space.search.items()):
        if isinstance(domain, When) and domain.key not in keys[:index]:
            yield f"{key}: it waits for {domain.key!r}, which must be searched before it"
        if key in space.fixed:
            yield f"{key}: both searched and fixed"
    if space.steps % space.every:
        yield (
            f"steps: a multiple of every ({space.every}) is needed, so that the last step is "
            f"validated, got {space.steps}"
        )
    scheduler, validations = space.scheduler, space.steps // space.every
    for name in ("grace", "interval"):
        if not 0 < (value := getattr(scheduler, name, 1)) <= validations:
            yield (
                f"scheduler: {name} counts validations, of which a trial has {validations} (steps "
                f"by every): 1 to {validations} are possible, got {value}"
            )
    if isinstance(scheduler, Population):
        if space.searcher != "random":
            yield f"searcher: a population starts from random points, got {space.searcher!r}"
        if odd := [key for key in space.search if key not in SCHEDULED]:
            yield f"{', '.join(odd)}: a population changes rates only ({', '.join(SCHEDULED)})"
        if odd := [k for k, d in space.search.items() if not isinstance(d, LogUniform | Uniform)]:
            yield f"{', '.join(odd)}: a population needs LogUniform or Uniform"


#: Keys whose values may change in mid-run.
SCHEDULED = ("inner.lr", "outer.lr")
