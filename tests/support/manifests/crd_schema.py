"""Ray's kinds against the schemas of KubeRay's custom resource definitions.

Those are structural schemas, a dialect of Kubernetes'; a JSON Schema validator needs them
translated.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from manifests.documents import Manifest, read


def translate(schema: Any) -> Any:
    """A structural schema as a JSON Schema.

    - An object with properties has no others, unless it says so: this is what finds misspelt keys.
    - An integer-or-string is either.
    - What is nullable may be null.
    - What is required and has a default need not be there: the server fills it in.

    Recursion is by keyword, because maps of properties hold fields named ``type`` or ``items``.
    """
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    if "properties" in made:
        made["properties"] = {k: translate(v) for k, v in schema["properties"].items()}
        if not made.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
        defaulted = {k for k, v in schema["properties"].items() if "default" in v}
        if "required" in made:
            made["required"] = [key for key in made["required"] if key not in defaulted]
    for keyword in ("items", "additionalProperties", "not"):
        if keyword in made:
            made[keyword] = translate(made[keyword])
    for keyword in ("allOf", "anyOf", "oneOf"):
        if keyword in made:
            made[keyword] = [translate(part) for part in made[keyword]]
    if made.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if made.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def published(folder: Path) -> dict[str, Draft7Validator]:
    """Validators by kind from the published schemas in a folder."""
    files = {"RayCluster": "raycluster-v1", "RayJob": "rayjob-v1"}
    packed = {k: (folder / f"{v}.schema.json.xz").read_bytes() for k, v in files.items()}
    schemas = {k: json.loads(lzma.decompress(content)) for k, content in packed.items()}
    return {k: Draft7Validator(translate(schema)) for k, schema in schemas.items()}


def own_subset(file: Path) -> dict[str, Draft7Validator]:
    """Validators by kind from a schema of what this project uses, closed to anything else."""
    (schemas,) = read(file)
    cluster = translate(schemas["clusterSpec"])
    made = {}
    for kind in ("RayCluster", "RayJob"):
        schema = translate(schemas[kind])
        made[kind] = Draft7Validator({**schema, "definitions": {"clusterSpec": cluster}})
    return made


def ray_errors(manifest: Manifest, validators: dict[str, Draft7Validator]) -> Iterator[str]:
    """What the API server would refuse in a RayCluster or a RayJob."""
    if manifest.body.get("apiVersion") != "ray.io/v1":
        yield f"{manifest.where}: apiVersion ray.io/v1 is demanded"
    if manifest.kind not in validators:
        yield f"{manifest.where}: no schema of such a kind is at hand"
        return
    for error in validators[manifest.kind].iter_errors(manifest.body):
        path = ".".join(map(str, error.absolute_path))
        yield f"{manifest.where}: {path or '(top)'}: {error.message[:300]}"
