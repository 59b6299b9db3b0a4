"""The lower bounds of pyproject.toml: ``python tests/support/lowest.py`` prints them as pins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def direct() -> list[str]:
    """What we ask for ourselves: dependencies, extras, and what builds the wheel."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = whole["project"]["optional-dependencies"].values()
    return [
        *whole["project"]["dependencies"],
        *(line for extra in extras for line in extra),
        *whole["build-system"]["requires"],
    ]


def lower_bound(line: str) -> str:
    """``1.2`` of ``name[extra]>=1.2,<2``.

    Raises:
        ValueError: it has none, or several.
    """
    found = re.findall(r"[>=]=\s*([\w.]+)", line)
    if len(found) != 1:
        raise ValueError(f"pyproject.toml: {line!r}: one lower bound (>= or ==) is needed")
    return str(found[0])


def main() -> None:
    """Print ``name==bound`` of each."""
    for line in sorted(set(direct())):
        name = re.split(r"[\[<>=! ]", line, maxsplit=1)[0]
        print(f"{name}=={lower_bound(line)}")


if __name__ == "__main__":
    main()
