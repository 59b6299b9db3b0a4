"""Figures of runs: read from their directories, combined over seeds and between runs.

The interval of a mean over S seeds has two parts, added as squares: that over seeds, t(S - 1) times
their standard deviation (ddof 1) over the root of S, and that over episodes, which all seeds share,
for which the mean of the seeds' own intervals is an upper bound. One seed has the interval over
episodes alone. Ratios and differences of two runs are made seed by seed, their intervals from both
runs' as if they were independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from data_pipeline.errors import DataError
from metadist.errors import MetadistError, RunError
from metadist.reproduce.plan import Planned, row_protocol
from metadist.reproduce.table import Row
from metadist.reproduce.verdict import Ours
from metadist.runs.classes import classes_file, read_classes
from metadist.runs.readers.diagnostics import FILE as DIAGNOSTICS
from metadist.runs.readers.diagnostics import read_learned_quantities
from metadist.runs.readers.evaluations import StoredEvaluation, read_own_figures
from metadist.runs.record import UNREADABLE
from metadist.statistics.format import finite
from metadist.statistics.paired import t975


class Missing(Exception):
    """There is no figure; the message says why."""


@dataclass(frozen=True)
class Measured:
    """A row's figure, and what it comes from.

    Attributes:
        ours: in the row's unit; None if there is none, ``missing`` then says why.
        lost: why seeds are missing from the mean, one line each.
        curve: (step, mean, half-width) after each adaptation step, of the first seed, unscaled.
    """

    ours: Ours | None
    missing: str = ""
    lost: tuple[str, ...] = ()
    curve: tuple[tuple[int, float | None, float | None], ...] = ()


def measure(row: Row, planned: Sequence[Planned], reasons: Mapping[str, str]) -> Measured:
    """A row's figure from its runs.

    Args:
        planned: the runs of the request.
        reasons: run names -> why the run has not ended well.
    """
    seeds = sorted({p.seed for p in planned})
    of = {(p.key, p.seed): p for p in planned}
    values: list[Ours] = []
    lost: list[str] = []
    curve: tuple[tuple[int, float | None, float | None], ...] = ()
    for seed in seeds:
        try:
            one = _read(row, of[row.run, seed], reasons)
            if row.versus is not None:
                one = combine(row, one, _read(row, of[row.versus, seed], reasons))
        except Missing as error:
            lost.append(str(error))
            continue
        if not values and row.scored:
            curve = _curve(row, of[row.run, seed])
        values.append(one)
    if not values:
        return Measured(None, lost[0])
    return Measured(scaled(over_seeds(values), row.scale), "", tuple(lost), curve)


def _read(row: Row, planned: Planned, reasons: Mapping[str, str]) -> Ours:
    """A run's figure, or :class:`Missing`."""
    if planned.problem:
        raise Missing(planned.problem)
    if not planned.finished:
        raise Missing(reasons.get(planned.name, "its run has not ended"))
    try:
        return _READERS.get(row.metric, _score)(row, planned)
    except UNREADABLE as error:
        if planned.name in reasons:
            raise Missing(reasons[planned.name]) from None
        what = str(error) if isinstance(error, MetadistError | DataError) else repr(error)
        raise Missing(f"{planned.run.path}: its result cannot be read ({what})") from None


def _figures(row: Row, planned: Planned) -> StoredEvaluation:
    assert planned.recipe is not None
    protocol, _ = row_protocol(row, planned.name, planned.recipe)
    return read_own_figures(planned.run, planned.recipe, protocol)


def _at(row: Row, found: StoredEvaluation, step: int) -> tuple[float, float]:
    """The figure of a row's metric after so many steps, and its interval; NaN if it has none."""
    if found.metric.name == row.metric:
        return found.steps[step].mean, found.steps[step].ci95
    for own in found.further:
        if own.metric.name == row.metric:
            return own.mean[step], own.ci95[step]
    names = [found.metric.name, *(own.metric.name for own in found.further)]
    raise RunError(f"{row.metric} was asked for, {found.name}.json holds {', '.join(names)}")


def _score(row: Row, planned: Planned) -> Ours:
    found = _figures(row, planned)
    known = read_classes(classes_file(planned.run.evaluation, found.name), found.episodes)
    step = found.figure_step if row.step is None else row.step
    mean, ci95 = _at(row, found, step)
    return Ours(
        value=finite(mean),
        ci95=finite(ci95),
        episodes=found.episodes,
        failed=found.steps[step].failed,
        classes=known.told() if known else {},
        labels=found.labels,
        left_out=found.metric.name != row.metric or found.metric.leaves_out_failed,
    )


def _curve(row: Row, planned: Planned) -> tuple[tuple[int, float | None, float | None], ...]:
    found = _figures(row, planned)
    told = (_at(row, found, step.step) for step in found.steps)
    return tuple((step, finite(mean), finite(ci95)) for step, (mean, ci95) in enumerate(told))


def _speed(row: Row, planned: Planned) -> Ours:
    speed = float(planned.run.info()["result"]["tasks_per_second"])
    if speed <= 0:
        raise RunError("its last attempt had nothing left to train; remove it to measure again")
    return Ours(speed, None)


def _finding(row: Row, planned: Planned) -> Ours:
    found = read_learned_quantities(planned.run.evaluation / DIAGNOSTICS)
    for level, name in ((found, row.finding), (found.get(row.finding, {}), row.part)):
        if name not in level:
            raise RunError(f"no {name!r} among {', '.join(level) or 'nothing'}")
    mean = fmean(found[row.finding][row.part])
    if not math.isfinite(mean):
        raise RunError(f"{row.finding} of {row.part} is not finite")
    return Ours(mean, None)


#: Of what is no score of an evaluation.
_READERS = {"speed": _speed, "finding": _finding}


def combine(row: Row, a: Ours, b: Ours) -> Ours:
    """Ratio or difference of two figures; see the top of this file.

    Raises:
        Missing: episodes have failed, and are left out of a mean.
    """
    both = replace(a, failed=a.failed + b.failed)
    if (a.left_out or b.left_out) and both.failed:
        raise Missing(
            f"{both.failed} of {a.episodes + b.episodes} episodes have no finite result, "
            f"no {row.combine} can be made"
        )
    if a.value is None or b.value is None or (row.combine == "ratio" and b.value == 0):
        return replace(both, value=None, ci95=None)
    if row.combine == "difference":
        ci = None if a.ci95 is None or b.ci95 is None else math.hypot(a.ci95, b.ci95)
        return replace(both, value=a.value - b.value, ci95=ci)
    ratio = a.value / b.value
    if a.ci95 is None or b.ci95 is None or a.value == 0:
        return replace(both, value=ratio, ci95=None)
    # First order in both errors.
    return replace(
        both, value=ratio, ci95=abs(ratio) * math.hypot(a.ci95 / a.value, b.ci95 / b.value)
    )


def over_seeds(values: Sequence[Ours]) -> Ours:
    """The mean over seeds; see the top of this file."""
    failed = sum(v.failed for v in values)
    first = replace(values[0], seeds=len(values), failed=failed)
    finite = [v.value for v in values if v.value is not None]
    if len(finite) < len(values):
        return replace(first, value=None, ci95=None)
    if len(values) == 1:
        return first
    freedom = len(finite) - 1
    parts = [t975(freedom) * stdev(finite) / math.sqrt(len(finite))]
    own = [v.ci95 for v in values if v.ci95 is not None]
    if len(own) == len(values):
        parts.append(fmean(own))
    return replace(first, value=fmean(finite), ci95=math.hypot(*parts))


def scaled(ours: Ours, by: float) -> Ours:
    """In another unit."""
    return replace(
        ours,
        value=None if ours.value is None else ours.value * by,
        ci95=None if ours.ci95 is None else ours.ci95 * by,
    )
