"""Figures as text: numbers with as many digits as tell something, means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable


def finite(value: float) -> float | None:
    """The value, or None where there is none: JSON has no NaN."""
    return value if math.isfinite(value) else None


def percent(value: float, digits: int = 1) -> str:
    """``87.3 %``."""
    return f"{100 * value:.{digits}f} %"


def number(value: float, like: float | None = None) -> str:
    """Three significant digits, zeros included; or as many decimals as ``like`` has so."""
    scale = abs(value if like is None else like)
    if not math.isfinite(value) or not math.isfinite(scale):
        return str(value)
    if scale and not 1e-4 <= scale < 1e6:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(scale)))}f}" if scale else "0"


def mean_ci(
    mean: float, ci95: float | None, form: Callable[[float], str] | str, unit: str = ""
) -> str:
    """``0.534 ± 0.041``; the mean alone where its interval is not known.

    Args:
        mean, ci95: a mean and the half-width of its 95 % interval.
        form: how both are written: a function, or a format such as ``{:.3f}``.
        unit: written once, behind both: ``%`` takes both as shares.
    """
    write = form.format if isinstance(form, str) else form
    by = 100 if unit in ("%", "points") else 1
    half = f" ± {write(by * ci95)}" if ci95 is not None and math.isfinite(ci95) else ""
    return f"{write(by * mean)}{half} {unit}".rstrip()


def score_ci(mean: float, ci95: float, regression: bool) -> tuple[str, str]:
    """A score and its interval apart: (``87.3``, ``± 0.5 %``) or (``0.53``, ``± 0.04``)."""
    if not math.isfinite(mean):
        return "none finite", ""
    if regression:
        text = mean_ci(mean, ci95, lambda value: number(value, like=mean))
    else:
        text = mean_ci(mean, ci95, "{:.1f}", "%")
    value, _, half = text.partition(" ")
    return value, half
