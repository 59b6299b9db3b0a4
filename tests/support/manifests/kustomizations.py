"""Kustomizations without kustomize: what can be said of the files alone.

This is what is left where there is no kubectl; it is checked everywhere, so that it works there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from manifests.documents import Manifest, at, parse, read

_API = {
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
    "Component": "kustomize.config.k8s.io/v1alpha1",
}
_KEYS = {"apiVersion", "kind", "namespace", "nameSuffix", "resources", "components", "patches"}
_KEYS |= {"configMapGenerator", "configurations", "images", "replacements"}
_OPERATIONS = {"add": {"value"}, "replace": {"value"}, "remove": set()}
FILE = "kustomization.yaml"


def _list(body: dict[str, Any], key: str) -> list[Any]:
    return body.get(key) or []


def _generated_files(generator: dict[str, Any]) -> list[str]:
    return [entry.rsplit("=", 1)[-1] for entry in generator.get("files") or []]


def file_problems(folder: Path) -> Iterator[str]:
    """What is wrong in the kustomization file of a folder: keys, files it names, patches."""
    where = folder / FILE
    documents = read(where)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        yield f"{where}: one document is demanded"
        return
    body = documents[0]
    if body.get("apiVersion") != _API.get(str(body.get("kind"))):
        yield f"{where}: {body.get('kind')} of {body.get('apiVersion')}"
    if unknown := sorted(set(body) - _KEYS):
        yield f"{where}: unknown keys {', '.join(unknown)}"
    for entry in _list(body, "resources"):
        path = folder / entry
        if not path.is_file() and at(_head(path), "kind") != "Kustomization":
            yield f"{where}: {entry} is no file and no kustomization"
    for entry in _list(body, "components"):
        if at(_head(folder / entry), "kind") != "Component":
            yield f"{where}: {entry} is no component"
    files = [f for g in _list(body, "configMapGenerator") for f in _generated_files(g)]
    for entry in [*_list(body, "configurations"), *files]:
        if not (folder / entry).is_file():
            yield f"{where}: there is no file {entry}"
    for patch in _list(body, "patches"):
        yield from (f"{where}: {problem}" for problem in _patch_problems(patch))


def _head(folder: Path) -> Any:
    return read(folder / FILE)[0] if (folder / FILE).is_file() else None


def _patch_problems(patch: dict[str, Any]) -> Iterator[str]:
    if unknown := sorted(set(patch) - {"target", "patch"}):
        yield f"a patch with {', '.join(unknown)}"
    if not patch.get("target"):
        yield "a patch without target"
    try:
        documents = parse(patch.get("patch") or "")
    except yaml.YAMLError as error:
        yield f"a patch that is no YAML: {error}"
        return
    if len(documents) != 1:
        yield "a patch is one document"
    elif isinstance(documents[0], list):
        for operation in documents[0]:
            needed = _OPERATIONS.get(str(operation.get("op")))
            if needed is None or set(operation) != {"op", "path"} | needed:
                yield f"no operation: {operation}"
            elif not str(operation["path"]).startswith("/"):
                yield f"a path from the top is demanded: {operation['path']}"
    elif "kind" not in documents[0]:
        yield "a patch that is neither operations nor part of an object"


def collect(folder: Path) -> list[Manifest]:
    """The objects that a kustomization names, before any patch.

    As kustomize does it, ConfigMaps are made of their files, and the namespace is set; a RayJob has
    the RayCluster's spec. Names get no hash and no suffix.
    """
    body = read(folder / FILE)[0]
    found: list[Manifest] = []
    for entry in [*_list(body, "resources"), *_list(body, "components")]:
        path = (folder / entry).resolve()
        if path.is_dir():
            found += collect(path)
        else:
            found += [Manifest(document, str(path)) for document in read(path)]
    for generator in _list(body, "configMapGenerator"):
        metadata = {"name": generator["name"], **(generator.get("options") or {})}
        metadata.pop("disableNameSuffixHash", None)
        texts = {f: (folder / f).read_text(encoding="utf-8") for f in _generated_files(generator)}
        data = {Path(file).name: text for file, text in texts.items()}
        data.update(literal.split("=", 1) for literal in generator.get("literals") or [])
        document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        found.append(Manifest(document, str(folder)))
    if namespace := body.get("namespace"):
        for manifest in found:
            if manifest.kind != "Namespace":
                manifest.body["metadata"].setdefault("namespace", namespace)
    return _with_clusters(found)


def _with_clusters(found: list[Manifest]) -> list[Manifest]:
    cluster = next((m for m in found if m.kind == "RayCluster"), None)
    jobs = [m for m in found if m.kind == "RayJob"]
    if cluster is None or not jobs:
        return found
    for job in jobs:
        job.body["spec"].setdefault("rayClusterSpec", cluster.body["spec"])
    return [m for m in found if m is not cluster]
