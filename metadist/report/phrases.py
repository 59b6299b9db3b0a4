"""Figures in words."""

from __future__ import annotations

import math
import re

from metadist.report.protocol import Protocol, StepFigures


def plural(count: int, noun: str) -> str:
    """``1 step``, ``1,200 steps``, ``15 queries``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} queries" if noun == "query" else f"{count:,} {noun}s"


def queries(protocol: Protocol) -> str:
    """A protocol's number of queries."""
    count = plural(protocol.queries, "query")
    return count if protocol.kind == "regression" else f"{count} per class"


def label(protocol: Protocol) -> str:
    """What its name says: ``15 queries per class``, ``5 shots, 10 steps, 10 queries``."""
    part, *different, _ = protocol.name.split("-")
    words = ["validation"] if part == "val" else []
    for piece in different:
        match = re.fullmatch(r"(\d{1,9})([a-z]+?)s?", piece)
        words.append(plural(int(match[1]), match[2]) if match else piece)
    return ", ".join([*words, queries(protocol)])


def diverged(step: StepFigures, episodes: int) -> str:
    """``37 of 600 episodes diverged``; nothing if none has."""
    return f"{step.failed:,} of {plural(episodes, 'episode')} diverged" if step.failed else ""


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


def mean_and_interval(step: StepFigures, regression: bool) -> tuple[str, str]:
    """A mean and its 95 % interval: (``87.3``, ``± 0.5 %``) or (``0.53``, ``± 0.04``)."""
    if not math.isfinite(step.mean):
        return "none finite", ""
    if regression:
        return number(step.mean), f"± {number(step.ci95, like=step.mean)}"
    return f"{100 * step.mean:.1f}", f"± {percent(step.ci95)}"
