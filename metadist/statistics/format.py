"""Figures as text: numbers with as many digits as tell something, means with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metadist.objectives import Metric


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


def score(metric: Metric, value: float) -> str:
    """A score in words: ``87.3 %`` or ``0.534``."""
    return percent(value) if metric.percent else number(value)


def score_ci(metric: Metric, mean: float, ci95: float) -> tuple[str, str]:
    """A score and its interval apart: (``87.3``, ``± 0.5 %``) or (``0.53``, ``± 0.04``)."""
    if not math.isfinite(mean):
        return "none finite", ""
    if metric.percent:
        text = mean_ci(mean, ci95, "{:.1f}", "%")
    else:
        text = mean_ci(mean, ci95, lambda value: number(value, like=mean))
    value, _, half = text.partition(" ")
    return value, half


def exact(metric: Metric, value: float) -> str:
    """A score with more digits, for a result: ``87.31 %``, ``0.5341`` or ``1.2e+09``."""
    if metric.percent:
        return percent(value, 2)
    return f"{value:.4f}" if math.fabs(value) < 1e6 else f"{value:.3e}"


def exact_ci(metric: Metric, value: float | None, ci95: float | None) -> str:
    """A result's figure with its interval: ``63.70 % ± 2.87 %``."""
    if value is None or math.isnan(value):
        return "no episode had a finite result"
    # The interval of a single episode, or of errors beyond all measure, is none.
    return mean_ci(value, ci95, lambda part: exact(metric, part))


def mean_of(metric: Metric) -> str:
    """A mean of scores by its name: ``mean accuracy``, ``mean squared error``."""
    return metric.title if metric.title.startswith("mean ") else f"mean {metric.title}"


def logarithmic(metric: Metric, values: Iterable[float]) -> bool:
    """Whether scores are drawn over a logarithmic axis: errors, none of which is 0."""
    return are_errors(metric) and all(value > 0 for value in values)


def are_errors(metric: Metric) -> bool:
    """Whether scores are errors, which may be beyond all measure: the less the better."""
    return not metric.percent and not metric.higher_is_better


def cut(text: str, room: int) -> str:
    """A text in at most so many letters."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


def sentence(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]
