"""Parts from outside, as run.json and the configuration of a saved model name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metadist.runs.readers.fields import mapping, text

#: Kinds that a learner and its data are made of.
KINDS = (
    "algorithm",
    "backbone",
    "objective",
    "dataset",
    "function",
    "episode_source",
    "tune_space",
)


def read_plugins(value: Any) -> dict[str, dict[str, str]]:
    """What is recorded of each part, by kind; raises ValueError where it is none."""
    found: dict[str, dict[str, str]] = {}
    for kind, made in mapping(value, "plugins").items():
        if kind not in KINDS:
            raise ValueError(f"plugins: {', '.join(KINDS)} are known, got {str(kind)[:40]!r}")
        where = f"plugins.{kind}"
        own = {k: text(v, f"{where}.{k}") for k, v in mapping(made, where).items()}
        for needed in ("name", "sha256"):
            text(own.get(needed), f"{where}.{needed}")
        if not (own.get("path") or own.get("module")):
            raise ValueError(f"{where}: 'path' or 'module' is needed, where its source is")
        found[kind] = own
    return found


def changes(
    recorded: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """What differs between the parts from outside that a run was made with and those used now.

    Args:
        recorded, now: as under ``plugins`` in run.json; see :func:`metadist.plugins.facts`.
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
    source = given.get("module") or given.get("path")
    return f"{given['name']!r} of {source} (SHA-256 {given['sha256'][:12]})"
