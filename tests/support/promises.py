"""Plants the faults of ``promises.toml``, one at a time, and tells which test sees each.

    python tests/support/promises.py [NAME ...]

A fault counts as caught if the tests that are named for it pass without it and one of them fails,
by an assertion or an error of ours, with it. Ends with status 1 if one is not caught.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("promises.toml")
#: A fault that cannot even be imported is caught by anything.
_BROKEN = re.compile(
    r"^E\s+(SyntaxError|IndentationError|ImportError|ModuleNotFoundError|NameError)", re.MULTILINE
)


@dataclass(frozen=True)
class Promise:
    """A promise, a fault that breaks it, and who sees that.

    Attributes:
        says: the promise, in one sentence.
        file, old, new: the fault: a text that stands once in a file, and what takes its place.
        caught_by: names of tests, as pytest takes them, below ``tests/``.
        slow: they are not in the default tier.
    """

    name: str
    says: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    slow: bool = False

    def planted(self, text: str) -> str:
        """The file with the fault.

        Raises:
            ValueError: the text that it takes the place of does not stand there once.
        """
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name}: {self.file} holds {self.old!r} {count} times, once is needed"
            )
        return text.replace(self.old, self.new)


def promises() -> list[Promise]:
    """All of the table."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [
        Promise(name, **{**body, "caught_by": tuple(body["caught_by"])})
        for name, body in table.items()
    ]


@contextmanager
def copied() -> Iterator[Path]:
    """The tree as git knows it, elsewhere."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory(prefix="metadist-promises-") as folder:
        for name in filter(None, names.split("\0")):
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        yield Path(folder)


def tested(tree: Path, names: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run some tests on a copy."""
    there = {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
    words = ["-x", "-q", "-p", "no:cacheprovider", "-n", "0", f"--basetemp={tree}-tests"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *(f"tests/{name}" for name in names)],
        cwd=tree,
        env=os.environ | there | {"METADIST_EXPECT_INSTALLED": str(tree)},
        check=False,
        capture_output=True,
        text=True,
    )
    shutil.rmtree(f"{tree}-tests", ignore_errors=True)
    return done


def verdict(done: subprocess.CompletedProcess[str]) -> str:
    """``passed``, ``caught by TEST``, or what went wrong instead."""
    if done.returncode == 0:
        return "passed"
    failed = re.search(r"^FAILED tests/(.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed and not _BROKEN.search(done.stdout):
        return f"caught by {failed[1]}"
    return f"pytest ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"


def _write(path: Path, text: str) -> None:
    """Write a source file so that Python sees that it is another, also within a second."""
    later = path.stat().st_mtime + 2
    path.write_text(text, encoding="utf-8")
    os.utime(path, (later, later))


def main(wanted: list[str]) -> int:
    """Plant what is wanted, or all, and tell."""
    every = promises()
    if unknown := set(wanted) - {promise.name for promise in every}:
        print(f"no such promise: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [promise for promise in every if not wanted or promise.name in wanted]
    missed = 0
    with copied() as tree:
        for promise in chosen:
            began, path = time.monotonic(), tree / promise.file
            whole = path.read_text(encoding="utf-8")
            without = verdict(tested(tree, promise.caught_by))
            _write(path, promise.planted(whole))
            found = verdict(tested(tree, promise.caught_by))
            _write(path, whole)
            if without != "passed":
                found = f"without the fault: {without}"
            right = found.startswith("caught")
            missed += not right
            told = found if right else f"NOT CAUGHT: {found}"
            tier = "slow" if promise.slow else "default"
            seconds = time.monotonic() - began
            print(f"{promise.name:22} {seconds:5.0f} s  {tier:7}  {told}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted faults caught")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
