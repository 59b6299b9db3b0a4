"""What a check says, and how checks are run on code that may fail anywhere."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeVar

from data_pipeline.errors import DataError
from metadist.errors import MetadistError, RecipeError, UndeclaredNeed

Level = Literal["error", "warning", "note"]
SubjectT = TypeVar("SubjectT")
MadeT = TypeVar("MadeT")


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in words.

    Attributes:
        level: ``error``: the contract is broken. ``warning``: it works, and hardly as was meant.
            ``note``: worth knowing.
        check: the name of the check that found it.
        demanded, got, mend: what was demanded, what there was, how to mend it.
        where: file and line, where there is one.
        on: on which small tasks and networks it was seen.
        trace: the traceback of an error in the part's code.
    """

    level: Level
    check: str
    demanded: str
    got: str
    mend: str
    where: str = ""
    on: tuple[str, ...] = ()
    trace: str = ""

    def __str__(self) -> str:
        more = f" and {len(self.on) - 1} more" if len(self.on) > 1 else ""
        seen = f" [{self.on[0]}{more}]" if self.on else ""
        where = f"{self.where}: " if self.where else ""
        return (
            f"{self.level:7}  {self.check}: {where}demanded {self.demanded}; got {self.got}; "
            f"to mend it: {self.mend}{seen}"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        fields = {name: value for name, value in vars(self).items() if name != "trace"}
        return fields | {"on": list(self.on)}


def found(demanded: str, got: object, mend: str, level: Level = "error") -> Finding:
    """A finding of the check that is running."""
    return Finding(level, "", demanded, str(got), mend)


def first_this(what: str) -> Finding:
    """A note that all else would only say the same again."""
    got = "what stands above"
    return Finding("note", "the rest", what, got, "that first; the rest is looked at then")


#: How to mend what torch cannot take several tasks of at once.
NO_VMAP = (
    "leave engine.mode at 'loop', or use no tensor's value in Python: no .item(), no if, no "
    "torch.nn.functional.one_hot (y[:, None] == torch.arange(ways) says the same)"
)

#: A generator of findings about a subject; its name is the check's.
Check = Callable[[SubjectT], Iterator[Finding]]


@dataclass(frozen=True)
class Report:
    """What was found of one part.

    Attributes:
        kind, name: of the part.
        checks: names of the checks that were made.
        findings: errors first.
        on: the small tasks and networks that it was tried on.
    """

    kind: str
    name: str
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]
    on: tuple[str, ...] = ()

    def of(self, level: Level) -> tuple[Finding, ...]:
        """The findings of a level."""
        return tuple(finding for finding in self.findings if finding.level == level)

    @property
    def ok(self) -> bool:
        """Whether the contract is kept: nothing found but warnings and notes."""
        return not self.of("error")

    @property
    def passed(self) -> tuple[str, ...]:
        """The checks that found neither an error nor a warning."""
        bad = {finding.check for finding in self.findings if finding.level != "note"}
        return tuple(check for check in self.checks if check not in bad)

    def __str__(self) -> str:
        errors, warnings = len(self.of("error")), len(self.of("warning"))
        return "\n".join(
            [
                *map(str, self.findings),
                *([f"right    {', '.join(self.passed)}"] if self.passed else []),
                f"{self.kind} {self.name}: {len(self.checks)} checks, {_count(errors, 'error')}, "
                f"{_count(warnings, 'warning')}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        fields = {"kind": self.kind, "name": self.name, "ok": self.ok, "on": list(self.on)}
        findings = [finding.as_dict() for finding in self.findings]
        return {**fields, "checks": list(self.checks), "findings": findings}


_NUMBER = re.compile(r"-?\d[\d.]*(e[-+]?\d+)?|-?\b(nan|inf)\b")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


@dataclass
class Inspection:
    """Runs checks on one part, and keeps what they find.

    Attributes:
        file: the part's source, whose lines errors are told by.
        say: is told which check is running, and on what.
        refused: why the part is none for some setting.
    """

    file: Path | None = None
    say: Callable[[str], None] = lambda line: None
    checks: dict[str, None] = field(default_factory=dict)
    settings: dict[str, None] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    findings: dict[tuple[Any, ...], Finding] = field(default_factory=dict)

    def run(self, checks: Iterable[Check[SubjectT]], subject: SubjectT, on: str = "") -> bool:
        """Run each of the checks; an error in one is a finding, and the next goes on.

        Returns:
            Whether none of them has found an error.
        """
        right = True
        if on:
            self.settings[on] = None
        for check in checks:
            name = check.__name__.strip("_").replace("_", " ")
            try:
                right = self.tell(name, check(subject), on) and right
            # Whatever a stranger's code raises, also an attempt to end the process.
            except (Exception, SystemExit) as error:
                right = False
                last = _last_call(check, subject, self.file)
                self.add(replace(raised(error, self.file, last), check=name), on)
        return right

    def tell(self, check: str, findings: Iterable[Finding], on: str = "") -> bool:
        """Keep what a check finds; whether none of it is an error."""
        self.checks[check] = None
        self.say(f"{check}{f', {on}' if on else ''}")
        right = True
        for finding in findings:
            right = right and finding.level != "error"
            self.add(replace(finding, check=check), on)
        return right

    def builds(
        self, make: Callable[[], MadeT], on: str = "", *, may_refuse: bool = True
    ) -> MadeT | None:
        """What building the part gives; None where that fails, or the part refuses."""
        made: list[MadeT] = []

        def builds(subject: None) -> Iterator[Finding]:
            yield from ()
            try:
                made.append(make())
            except RecipeError as error:
                if not may_refuse:
                    raise
                self.refused.append(str(error))
                self.settings.pop(on, None)

        self.run([builds], None, on)
        return made[0] if made else None

    @property
    def broken(self) -> bool:
        """Whether an error was found."""
        return any(finding.level == "error" for finding in self.findings.values())

    def add(self, finding: Finding, on: str = "") -> None:
        """Keep a finding; what is known already is seen once more."""
        # One mistake in the code meets many checks; numbers differ from setting to setting.
        fault = (finding.check, finding.level, _NUMBER.sub("", finding.demanded), finding.mend)
        exact = (finding.where, finding.got) if finding.trace else fault
        known = self.findings.get(exact, finding)
        self.findings[exact] = replace(
            known, on=tuple({**dict.fromkeys(known.on), on: None} if on else known.on)
        )

    def report(self, kind: str, name: str) -> Report:
        """All of it."""
        order = ("error", "warning", "note")
        findings = sorted(self.findings.values(), key=lambda finding: order.index(finding.level))
        return Report(kind, name, tuple(self.checks), tuple(findings), tuple(self.settings))


def first_line(error: BaseException) -> str:
    """Of what it says."""
    return next(iter(str(error).strip().splitlines()), "")


def brief(error: BaseException, length: int = 120) -> str:
    """The kind of an error and the beginning of its first line."""
    said = first_line(error)
    short = said if len(said) <= length else f"{said[:length].rpartition(' ')[0]} …"
    return f"{type(error).__name__}{f': {short}' if short else ''}"


def not_together(demanded: str, error: BaseException) -> Finding:
    """A warning that several tasks cannot be computed at once."""
    impossible = found(demanded, f"that it is not possible: {brief(error)}", NO_VMAP, "warning")
    return replace(impossible, where=place(error, None))


def raised(error: BaseException, file: Path | None, last: tuple[str, str] | None = None) -> Finding:
    """An error in the part's code, with the line in its file where it is known.

    Args:
        last: the part's function that returned last, and where, for errors outside of its file.
    """
    said, where = first_line(error), place(error, file)
    ours = isinstance(error, MetadistError | DataError)
    got, mend = (said, "as it says") if ours else (brief(error, 400), "this line (--traceback)")
    wanted = "a result"
    if isinstance(error, UndeclaredNeed):
        what, _, cure = said.partition(": ")
        wanted = "that a learner declares in `needs` what it reads of a task"
        got = f"{what}, which it has not declared and may not see here"
        mend = f"declare it, or do without it: {cure}"
    elif last is not None and not _own(error, file):
        call, where = last
        mend = mend if ours else f"what {call}() returns, which that comes from (--traceback)"
    trace = "".join(traceback.format_exception(error))
    return Finding("error", "", wanted, got, mend, where, trace=trace)


def _last_call(
    check: Check[SubjectT], subject: SubjectT, file: Path | None
) -> tuple[str, str] | None:
    """Which function of the part returned last before a check failed, and at which line."""
    if file is None:
        return None
    returned: list[tuple[str, str]] = []

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "return" and code.co_filename == str(file) and code.co_name[0] != "<":
            returned[:] = [(code.co_name, f"{file.name}:{frame.f_lineno}")]

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        for _ in check(subject):
            pass
    except (Exception, SystemExit):
        pass
    finally:
        sys.setprofile(before)
    return returned[0] if returned else None


def _own(error: BaseException, file: Path | None) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if file is not None and Path(frame.filename) == file]


def place(error: BaseException, file: Path | None) -> str:
    """File and line of an error: the last in the part's own source, else outside of libraries."""
    frames = traceback.extract_tb(error.__traceback__)
    own = _own(error, file)
    ours = [frame for frame in frames if "site-packages" not in frame.filename]
    frame = (own or ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
