"""Figures in words."""

from __future__ import annotations

import re

from metadist.runs.readers.evaluations import StepFigures, StoredEvaluation


def plural(count: int, noun: str) -> str:
    """``1 step``, ``1,200 steps``, ``15 queries``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} queries" if noun == "query" else f"{count:,} {noun}s"


def after_steps(count: int, noun: str = "step") -> str:
    """``after 1 step``, or that there were none."""
    return f"after {plural(count, noun)}" if count else "without adaptation steps"


def queries(protocol: StoredEvaluation) -> str:
    """A protocol's number of queries."""
    count = plural(protocol.queries, "query")
    return f"{count} per class" if protocol.labels else count


def label(protocol: StoredEvaluation) -> str:
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
