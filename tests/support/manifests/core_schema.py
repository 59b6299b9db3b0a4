"""Kubernetes' own kinds, and the pods inside Ray's, against the schemas of an API server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, schema_contents
from manifests.documents import Manifest
from manifests.pods import pods
from referencing import Registry, Resource

#: The release they are checked for.
RELEASE = "1.32"


@cache
def _folder() -> str:
    version = next(v for v in all_versions() if v.startswith(f"{RELEASE}."))
    # Only the strict ones refuse a key that does not exist.
    return f"kubernetes-json-schema/v{version}-local-strict"


@cache
def _definitions() -> Any:
    return Resource.from_contents(schema_contents(f"{_folder()}/_definitions.json", RELEASE))


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = schema_contents(f"{_folder()}/{name}.json", RELEASE)
    return Draft202012Validator(schema, registry=_definitions() @ Registry())


def _errors(name: str, body: Any, where: str) -> Iterator[str]:
    for error in _validator(name).iter_errors(body):
        path = ".".join(map(str, error.absolute_path))
        yield f"{where}: {path or '(top)'}: {error.message[:300]}"


def core_errors(manifest: Manifest) -> Iterator[str]:
    """What an API server would refuse in an object of Kubernetes' own."""
    group, _, version = str(manifest.body.get("apiVersion")).rpartition("/")
    short = "-".join(part for part in (group.split(".")[0], version) if part)
    try:
        _validator(f"{manifest.kind.lower()}-{short}")
    except FileNotFoundError:
        yield f"{manifest.where}: Kubernetes {RELEASE} has no such kind in {group or 'v1'}"
        return
    yield from _errors(f"{manifest.kind.lower()}-{short}", manifest.body, manifest.where)


def pod_errors(manifest: Manifest) -> Iterator[str]:
    """What it would refuse in the pods that KubeRay makes from an object of Ray's."""
    for pod in pods(manifest):
        yield from _errors("podtemplatespec-v1", pod.template, pod.where)
