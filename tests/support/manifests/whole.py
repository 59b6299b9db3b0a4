"""A rendering as a whole, with what stands in the cluster beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manifests.documents import Manifest, walk
from manifests.pods import Pod, pods


@dataclass(frozen=True)
class Whole:
    """Objects that are applied together.

    Attributes:
        objects: what is applied.
        beside: what has been applied before: for a job, the overlay it belongs to.
        ray: the version of Ray that the image has.
        secrets: name and key of the Secrets that the README tells to create.
    """

    objects: list[Manifest]
    beside: list[Manifest]
    ray: str
    secrets: frozenset[tuple[str, str]]

    @property
    def all(self) -> list[Manifest]:
        return [*self.objects, *self.beside]

    def of(self, kind: str) -> list[Manifest]:
        """The objects of a kind, those beside too."""
        return [m for m in self.all if m.kind == kind]

    def pods(self) -> Iterator[Pod]:
        """The pods of what is applied."""
        for manifest in self.objects:
            yield from pods(manifest)


def secrets_told(readme: str) -> frozenset[tuple[str, str]]:
    """Name and key from the rows ``| `name` | `key` | …`` of a table."""
    return frozenset(re.findall(r"^\| `([a-z0-9-]+)` \| `([\w.-]+)` \|", readme, re.MULTILINE))


def secrets_used(manifest: Manifest) -> Iterator[tuple[str, str | None]]:
    """Name, and key where one is named, of every Secret that an object refers to."""
    for path, value in walk(manifest.body):
        last = path.rsplit(".", 1)[-1]
        if last == "secretKeyRef":
            yield value["name"], value["key"]
        elif last == "secretRef":
            yield value["name"], None
        elif last == "secret" and isinstance(value, dict) and "secretName" in value:
            yield value["secretName"], None
        elif path.endswith("authOptions") and "secretName" in value:
            yield value["secretName"], "auth_token"
        elif last == "imagePullSecrets":
            yield from ((entry["name"], None) for entry in value)


def values(manifest: Manifest, key: str) -> Iterator[Any]:
    """The value of every key of that name, however deep."""
    for path, value in walk(manifest.body):
        if path.rsplit(".", 1)[-1] == key:
            yield value
