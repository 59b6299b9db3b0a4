"""Faults planted in parts that keep their contract, and whether `metadist check` finds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from checked_parts import PARTS

import metadist
from metadist.contracts import Report


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


def check_found(folder: Path, planted: Fault) -> None:
    """See that the check that it is meant for finds it, in its words, and in one line."""
    report = metadist.check(written(folder, planted.part, *planted.edits))
    hits = [
        finding
        for finding in report.findings
        if finding.check == planted.check
        and finding.level == planted.level
        and all(word in str(finding) for word in planted.words)
    ]
    assert hits, seen(report)
    assert report.ok == (not report.of("error"))
    assert all("\n" not in str(finding) for finding in report.findings)
