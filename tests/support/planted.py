"""Faults planted in parts that keep their contract, and whether `metadist check` finds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from checked_parts import PARTS

import metadist
from metadist.contracts import Report
from metadist.contracts.finding import Finding, Inspection


def written(folder: Path, name: str, *edits: tuple[str, str]) -> Path:
    """A part as a plugin, with texts in it replaced by others."""
    text = PARTS[name].format(name=name) if "{name}" in PARTS[name] else PARTS[name]
    for old, new in edits:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Fault:
    """A fault planted in a right part.

    Attributes:
        check: that finds it.
        words: that are said.
    """

    part: str
    check: str
    words: tuple[str, ...]
    edits: tuple[tuple[str, str], ...]
    level: str = "error"

    def __str__(self) -> str:
        return f"{self.part}-{self.check}-{self.words[0]}".replace(" ", "_")


def fault(
    part: str,
    check: str,
    words: str | tuple[str, ...],
    *edits: tuple[str, str],
    level: str = "error",
) -> Fault:
    return Fault(part, check, (words,) if isinstance(words, str) else words, edits, level)


def seen(report: Report) -> str:
    """For people whose test fails."""
    return f"{report}\n" + "\n".join(f.trace for f in report.findings)


class _Found(BaseException):
    """The fault is found: what further checks would say is not waited for."""


def check_found(folder: Path, planted: Fault) -> None:
    """See that the check that it is meant for finds it, in its words, and in one line."""
    add = Inspection.add

    def watched(inspection: Inspection, finding: Finding, on: str = "") -> None:
        add(inspection, finding, on)
        said = str(finding)
        assert "\n" not in said
        if (finding.check, finding.level) == (planted.check, planted.level) and all(
            word in said for word in planted.words
        ):
            raise _Found

    path = written(folder, planted.part, *planted.edits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inspection, "add", watched)
        try:
            report = metadist.check(path)
        except _Found:
            return
    pytest.fail(seen(report))
