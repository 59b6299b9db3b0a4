"""Parts from outside, as run.json and the configuration of a saved model name them."""

from __future__ import annotations

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
