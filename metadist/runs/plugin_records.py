"""What a run records of the parts from outside that it was made with, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

#: As under ``plugins`` in run.json: facts by kind.
Recorded = Mapping[str, Mapping[str, str]]


def how_to_give(missing: Recorded) -> str:
    """Where parts from outside came from, and how all of them are given again."""
    named = [f"{kind} {made['name']!r} from {_place(made)}" for kind, made in missing.items()]
    installed = sorted({m["distribution"] for m in missing.values() if "distribution" in m})
    mend = [f"install {' and '.join(installed)} again"] if installed else []
    if sources := sources_of(missing):
        words = " ".join(f"--plugin {shlex.quote(source)}" for source in sources)
        mend.append(f"a run directory cannot run code, so give {words} again")
        mend.append(f"in Python plugins={sources}")
    return f"made with {' and '.join(named)}; {'; '.join(mend)}"


def sources_of(recorded: Recorded) -> list[str]:
    """What ``--plugin`` has to be given, of parts as run.json has them."""
    return [str(_place(made)) for made in recorded.values() if "distribution" not in made]


def _place(made: Mapping[str, str]) -> str | None:
    return made.get("module") or made.get("path")


def changes(recorded: Recorded, now: Recorded) -> list[str]:
    """What differs between the parts from outside that a run was made with and those used now.

    Args:
        recorded, now: see :func:`metadist.plugins.facts`.
    """
    both = [(kind, recorded.get(kind, {}), now.get(kind, {})) for kind in {**recorded, **now}]
    return sorted(
        f"{kind} was {_described(made)}, is {_described(used)}"
        for kind, made, used in both
        if made.get("sha256") != used.get("sha256")
    )


def _described(given: Mapping[str, str]) -> str:
    if not given:
        return "built in"
    return f"{given['name']!r} of {_place(given)} (SHA-256 {given['sha256'][:12]})"
