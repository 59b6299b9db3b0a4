"""In what runs differ: their recipes, their data, and what they were computed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metadist.comparison.entry import Entry
from metadist.recipe.schema import varying
from metadist.report.text_table import short

Value = bool | int | float | str | None
#: What run.json says of a run that must not differ silently, by the name it has in a comparison.
_FACTS = ("dataset", "plugins", "versions")
#: What is told under another name as well.
_TWICE = {
    "dataset.name": "data.dataset",
    "numerics.torch": "versions.torch",
    "numerics.metadist": "versions.metadist",
}


def differences(entries: Sequence[Entry]) -> dict[str, list[Value]]:
    """Name -> the value of each run, of everything in which any two of them differ.

    First the recipe's ``section.key``; then ``dataset.digest``, ``plugins.…``, ``versions.…``,
    ``numerics.…``, ``bits``, ``code``, ``workers``, ``commit`` and ``machine``. None where a run
    has none.
    """
    rows: dict[str, list[Value]] = {
        key: [str(value) if isinstance(value, list) else value for value in values]
        for key, values in varying([entry.recipe for entry in entries]).items()
    }
    facts = [_facts(entry) for entry in entries]
    for name in dict.fromkeys(name for own in facts for name in own):
        values = [own.get(name) for own in facts]
        if any(value != values[0] for value in values):
            rows[name] = values
    # What is told already.
    for name, told in _TWICE.items():
        if told in rows:
            rows.pop(name, None)
    return rows


def _facts(entry: Entry) -> dict[str, Value]:
    given: dict[str, Any] = {name: entry.info.get(name) for name in _FACTS}
    given["numerics"] = entry.attempt.get("numerics")
    flat = _flat(given)
    for name, key in (("bits", "bits"), ("code", "code"), ("workers", "world_size")):
        flat[name] = _scalar(entry.attempt.get(key))
    makers = entry.info.get("made_by")
    known = [m for m in makers if isinstance(m, Mapping)] if isinstance(makers, list) else []
    for name in ("commit", "machine"):
        told = dict.fromkeys(str(maker[name]) for maker in known if name in maker)
        flat[name] = "; ".join(told) or None
    return flat


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    result: dict[str, Value] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= _flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = _scalar(value)
    return result


def _scalar(value: Any) -> Value:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def other_episodes(a: Entry, b: Entry) -> str:
    """Why the episodes of two runs are not the same; empty if they are."""
    if a.protocol.episode_digest == b.protocol.episode_digest:
        return ""
    mine, theirs = _episodes(a), _episodes(b)
    different = [
        f"{name} {' against '.join(short([str(mine[name]), str(theirs[name])], 16))}"
        for name in mine
        if mine[name] != theirs[name]
    ]
    return f"other episodes ({', '.join(different) or 'another generator of episodes'})"


def _episodes(entry: Entry) -> dict[str, Value]:
    """What decides the bits of the episodes of a protocol."""
    data, found = entry.recipe.data, entry.info.get("dataset")
    dataset = found if isinstance(found, Mapping) else {}
    return {
        "data.dataset": data.dataset,
        "split": _scalar(dataset.get("split")) or "",
        "dataset.digest": _scalar(dataset.get("digest")),
        "ways": entry.ways,
        "shots": entry.shots,
        "data.rotations": data.rotations,
        "data.labels": data.labels,
        "data.unlabeled": data.unlabeled,
        "data.distractors": data.distractors,
        "eval.within": entry.recipe.eval_within,
        "eval.drawer": entry.recipe.eval_drawer,
        "eval.seed": entry.recipe.eval.seed,
    }
