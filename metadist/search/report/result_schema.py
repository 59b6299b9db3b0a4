"""``result`` of search.json, checked: anybody may have altered it since."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metadist.statistics.paired import Paired


@dataclass(frozen=True)
class Estimate:
    """A mean, the half-width of its 95 % interval, and what that is over: seeds or episodes."""

    mean: float
    ci95: float
    over: str


@dataclass(frozen=True)
class Rival:
    """One of the best trials on fresh validation episodes.

    Attributes:
        searched: its score in the search, which chose it and is therefore too kind.
        fresh: its score on fresh episodes.
        apart: fresh score minus that of the winner; None for the winner.
    """

    trial: int
    searched: float
    fresh: Estimate
    apart: Paired | None


@dataclass(frozen=True)
class Setting:
    """A setting, trained anew with several seeds."""

    validation: Estimate
    test: Estimate
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What a search has come to.

    Attributes:
        trial: number of the winner.
        point: its values.
        episodes: fresh validation episodes.
        rivals: the best trials there, the winner first.
        within_noise: whether these episodes cannot tell the winner from the next.
        best, default: None: not trained anew.
        against_default: fresh scores of the best setting minus those of the default, each averaged
            over seeds, paired by episode.
        over: what its interval is over: seeds or episodes, whichever is wider.
        by_seed: the same for each seed.
        of_classes: how many classes the episodes of ``val`` and ``test`` are of, beside ``ways``;
            empty of functions, and where it was not recorded.
    """

    trial: int
    point: Mapping[str, Any]
    episodes: int
    rivals: tuple[Rival, ...]
    within_noise: bool
    best: Setting | None
    default: Setting | None
    against_default: Paired | None
    over: str
    by_seed: tuple[Paired, ...]
    of_classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def read_found(raw: Any) -> Found:
    """A result as ``search.json`` has it.

    Raises:
        ValueError: it is damaged.
    """
    try:
        apart = raw.get("against_default")
        return Found(
            trial=_count(raw["trial"]),
            point={str(k): _scalar(v) for k, v in raw["point"].items()},
            episodes=_count(raw["episodes"]),
            rivals=tuple(_rival(row) for row in _list(raw["top"])),
            within_noise=raw["within_noise"] is True,
            best=_setting(raw, "best"),
            default=_setting(raw, "default"),
            against_default=None if apart is None else _apart(apart),
            over="episodes" if apart is None else str(apart.get("over", "episodes")),
            by_seed=() if apart is None else tuple(_apart(a) for a in _list(apart["by_seed"])),
            of_classes={
                str(part): {str(name): _count(count) for name, count in told.items()}
                for part, told in raw.get("of_classes", {}).items()
                if {"ways", "classes"} <= told.keys()
            },
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _rival(row: Any) -> Rival:
    apart = row.get("difference")
    return Rival(
        _count(row["trial"]),
        _real(row["search"]),
        _estimate({**row, "over": "episodes"}),
        None if apart is None else _apart(apart),
    )


def _setting(raw: Any, name: str) -> Setting | None:
    runs = _list(raw[name])
    if not runs:
        return None
    return Setting(
        _estimate(raw[f"{name}_validation"]),
        _estimate(raw[f"{name}_test"]),
        tuple(_count(run["seed"]) for run in runs),
    )


def _estimate(raw: Any) -> Estimate:
    return Estimate(_real(raw["mean"]), _real(raw["ci95"]), str(raw["over"]))


def _apart(raw: Any) -> Paired:
    return Paired(_real(raw["mean"]), _real(raw["ci95"]), _count(raw["n"]), _count(raw["left_out"]))


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > 10_000:
        raise ValueError(f"a list is needed, got {str(value)[:40]!r}")
    return value


def _scalar(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"a value is needed, got {str(value)[:40]!r}")
    return value


def _real(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e308:
        raise ValueError(f"a number is needed, got {str(value)[:40]!r}")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"a whole number is needed, got {str(value)[:40]!r}")
    return value
