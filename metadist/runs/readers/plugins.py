"""Parts from outside, as run.json and the configuration of a saved model name them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from data_pipeline.registry import EXPORTS
from metadist.runs.readers.fields import mapping, text

#: As under ``plugins`` in run.json: facts by kind.
Recorded = Mapping[str, Mapping[str, str]]


def read_plugins(value: Any) -> dict[str, dict[str, str]]:
    """What is recorded of each part, by kind; raises ValueError where it is none."""
    found: dict[str, dict[str, str]] = {}
    for kind, made in mapping(value, "plugins").items():
        if kind not in EXPORTS:
            raise ValueError(f"plugins: {', '.join(EXPORTS)} are known, got {str(kind)[:40]!r}")
        where = f"plugins.{kind}"
        own = {k: text(v, f"{where}.{k}") for k, v in mapping(made, where).items()}
        for needed in ("name", "sha256"):
            text(own.get(needed), f"{where}.{needed}")
        if not (own.get("path") or own.get("module")):
            raise ValueError(f"{where}: 'path' or 'module' is needed, where its source is")
        found[kind] = own
    return found


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
