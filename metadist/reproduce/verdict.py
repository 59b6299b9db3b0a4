"""Whether a measured figure agrees with a published one, and if not, in which direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from metadist.reproduce.table import Better, Published
from metadist.statistics.classes import few_classes, of_classes

Kind = Literal["within", "above", "below", "not comparable", "missing"]
#: Below this share of the published budget a verdict says at which share it was reached.
FULL_ENOUGH = 0.5


@dataclass(frozen=True)
class Ours:
    """A measured figure in the row's unit.

    Attributes:
        value: None if no episode had a finite result.
        ci95: half-width of its 95 % interval; None if there is none.
        seeds: how many runs with different seeds it is a mean of.
        episodes: test tasks of each; 0 where there are none.
        failed: how many of them, over all seeds, had no finite result.
        classes: what stands beside a figure of classes: ``ways`` and ``classes`` of the test part;
            empty where there are none, or they were not recorded.
        labels: whether it is of tasks that have classes.
        left_out: whether episodes that have failed are not in the mean; an accuracy counts them.
    """

    value: float | None
    ci95: float | None
    seeds: int = 1
    episodes: int = 0
    failed: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    labels: bool = False
    left_out: bool = True


@dataclass(frozen=True)
class Verdict:
    """A word, and what has to be said with it.

    Attributes:
        better: whether the deviation is to the good; None where that means nothing.
        why: the reason of ``not comparable`` and ``missing``, or what qualifies the word.
    """

    kind: Kind
    better: bool | None = None
    why: str = ""

    @property
    def text(self) -> str:
        """In words."""
        side = {True: " (better)", False: " (worse)", None: ""}[self.better]
        if self.kind in ("not comparable", "missing"):
            return f"{self.kind}: {self.why}"
        return f"{self.kind}{side}{' ' if self.why else ''}{self.why}"


def judge(
    ours: Ours | None,
    published: Published | None,
    direction: Better,
    *,
    missing: str = "",
    not_comparable: str = "",
    share: float | None = None,
) -> Verdict:
    """Compare a figure with the published one.

    They agree if their intervals overlap: if the distance is at most the sum of the half-widths.

    Args:
        direction: which direction is the better one.
        missing: why there is no figure of ours.
        not_comparable: why the figures cannot be compared.
        share: of the published budget that was used.
    """
    if ours is None:
        return Verdict("missing", why=missing or "no result")
    if not_comparable:
        return Verdict("not comparable", why=not_comparable)
    if published is None:
        return Verdict("not comparable", why="nothing is published")
    if published.ensemble:
        of = " checkpoints" if published.members == "checkpoints" else ""
        return Verdict("not comparable", why=f"ensemble of {published.ensemble}{of}")
    if not published.checked:
        return Verdict("not comparable", why="the published figure was not read in its source")
    low = share is not None and share < FULL_ENOUGH
    at = f"at {percent(share)} of the published budget" if low else ""
    if ours.value is None or (ours.failed and ours.left_out):
        # What is not finite is worse than any, and no mean over the rest undoes that.
        total = ours.episodes * ours.seeds
        lost = f"{ours.failed} of {total} episodes have no finite result" if total else "not finite"
        word: Kind = "below" if direction == "higher" else "above"
        better = None if direction == "neither" else False
        return Verdict(word, better, ", ".join(part for part in (at, lost) if part))
    distance = ours.value - published.value
    room = (ours.ci95 or 0.0) + (published.ci95 or 0.0)
    if abs(distance) <= room or (published.relation == "at_least" and distance >= 0):
        return Verdict("within")
    better = None if direction == "neither" else (distance > 0) == (direction == "higher")
    return Verdict("above" if distance > 0 else "below", better, at)


def notes(ours: Ours | None, published: Published | None, verdict: Verdict) -> list[str]:
    """What a reader must know to weigh a verdict: of the intervals, and of the classes."""
    if ours is None:
        return []
    said = []
    if published is not None and verdict.kind not in ("not comparable", "missing"):
        if published.ci95 is None and published.relation == "equal":
            said.append("Published without an interval: ours alone decides.")
        if ours.ci95 is None and ours.value is not None:
            said.append("Ours has no interval: a time or a number of one run.")
        if verdict.kind != "within":
            if ours.failed:
                said.append("Episodes without a finite result are left out of the mean.")
        elif ours.ci95 is not None and ours.ci95 > abs(published.value) / 2:
            wide = "Our interval is wide beside the published figure: the agreement says little."
            said.append(wide)
    if ours.labels:
        known = ours.classes
        few = few_classes(known["classes"], known["ways"], "test") if known else ""
        of = of_classes(known, labels=True)
        said.append(f"{ours.episodes:,} test episodes{of}.{f' {few}.' if few else ''}")
    return said


def percent(share: float | None) -> str:
    """A share as a percentage with two digits that count."""
    if share is None or not math.isfinite(share):
        return "–"
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
