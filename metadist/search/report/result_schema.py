"""``result`` of search.json, checked: anybody may have altered it since."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)

from metadist.discovery import explain
from metadist.statistics.paired import Paired


def _or_nan(value: Any, read: Callable[[Any], float]) -> float:
    return math.nan if value is None else read(value)


_Real = Annotated[float, Field(allow_inf_nan=False), WrapValidator(_or_nan)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Estimate(_Part):
    """A mean, the half-width of its 95 % interval, and what that is over: seeds or episodes."""

    mean: _Real
    ci95: _Real
    over: str = "episodes"


class Difference(Estimate):
    """A paired difference."""

    n: _Count
    left_out: _Count

    @property
    def paired(self) -> Paired:
        """What can be asked for its word."""
        return Paired(self.mean, self.ci95, self.n, self.left_out)


class AgainstDefault(Difference):
    """Fresh scores of the best setting minus those of the default, each averaged over seeds, and
    the same for each seed."""

    by_seed: list[Difference]


class Rival(Estimate):
    """One of the best trials on fresh validation episodes.

    Attributes:
        search: its score in the search, which chose it and is therefore too kind.
        difference: fresh score minus that of the winner; None for the winner.
    """

    trial: _Count
    search: _Real
    difference: Difference | None = None


class Run(_Part):
    """One of the runs of a setting, by its name in the search."""

    run: str
    seed: _Count


class Setting(_Part):
    """A setting, trained anew with several seeds."""

    validation: Estimate
    test: Estimate
    runs: list[Run]


class Found(_Part):
    """What a search has come to.

    Attributes:
        trial, point: number and values of the winner.
        episodes: fresh validation episodes.
        top: the best trials there, the winner first.
        within_noise: whether these episodes cannot tell the winner from the next.
        best, default: None: not trained anew.
        of_classes: how many classes the episodes of ``val`` and ``test`` are of, beside ``ways``;
            empty of functions, and where it was not recorded.
    """

    trial: _Count
    point: dict[str, bool | int | float | str]
    episodes: _Count
    top: Annotated[list[Rival], Field(max_length=10_000)]
    within_noise: bool
    best: Setting | None
    default: Setting | None
    against_default: AgainstDefault | None = None
    of_classes: dict[str, dict[str, _Count]] = {}

    @model_validator(mode="before")
    @classmethod
    def _settings(cls, raw: Any) -> Any:
        """As they stand in the file, beside their runs."""
        if not isinstance(raw, dict):
            return raw
        settings = {name: raw.get(name) or None for name in ("best", "default")}
        for name, runs in settings.items():
            if runs is not None:
                validation, test = raw.get(f"{name}_validation"), raw.get(f"{name}_test")
                settings[name] = {"runs": runs, "validation": validation, "test": test}
        return {**raw, **settings}

    @field_validator("of_classes")
    @classmethod
    def _known(cls, of: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        return {part: told for part, told in of.items() if {"ways", "classes"} <= told.keys()}


def read_found(raw: Any) -> Found:
    """A result as ``search.json`` has it.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return Found.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"ValidationError: {explain(error, 'result')}") from None
