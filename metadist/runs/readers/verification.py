"""What an evaluation says of pairs of examples, in ``evaluation/<protocol>.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metadist.runs.readers.fields import count, mapping, real, reals, text

#: Of a curve.
_MOST_POINTS = 1000
_MOST_PAIRS = 10**15


@dataclass(frozen=True)
class StoredVerification:
    """How pairs are told apart, after the steps that the protocol's figure is about.

    Attributes:
        threshold: score from which on a pair is told to be of the same class.
        threshold_of: part whose episodes have chosen it.
        same, different: pairs of either kind.
        curve: (false positive rate, true positive rate) from (0, 0) to (1, 1).
    """

    threshold: float
    threshold_of: str
    same: int
    different: int
    curve: tuple[tuple[float, float], ...]


def read_verification(raw: Mapping[str, Any]) -> StoredVerification | None:
    """From a protocol's summary; None where pairs were not asked for. Raises ValueError."""
    if "verification" not in raw:
        return None
    told = mapping(raw["verification"], "verification")
    axes = [
        reals(told[f"{kind}_positive_rate"], f"{kind}_positive_rate", _MOST_POINTS)
        for kind in ("false", "true")
    ]
    if len(axes[0]) != len(axes[1]) or not all(0 <= v <= 1 for axis in axes for v in axis):
        raise ValueError("verification: a curve needs as many shares of either kind, from 0 to 1")
    same, different = (
        count(told[f"{kind}_pairs"], f"{kind}_pairs", 0, _MOST_PAIRS)
        for kind in ("same", "different")
    )
    threshold = real(told["threshold"], "threshold")
    part = text(told["threshold_of"], "threshold_of")
    return StoredVerification(threshold, part, same, different, tuple(zip(*axes, strict=True)))


def told_threshold(found: StoredVerification) -> str:
    """``threshold -1.25, chosen on validation pairs``."""
    part = "validation" if found.threshold_of == "val" else found.threshold_of
    threshold = f"{found.threshold:.3g}" if math.isfinite(found.threshold) else "none"
    return f"threshold {threshold}, chosen on {part} pairs"
