from __future__ import annotations

import os
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from manifests.crd_schema import own_subset, published
from manifests.documents import Manifest
from manifests.rendering import kubectl, kustomizations, render_all
from manifests.whole import secrets_told

from tests.k8s.places import K8S, NO_KUBECTL


@pytest.fixture(scope="session")
def rendered() -> dict[Path, list[Manifest]]:
    """The objects of every overlay and of its jobs."""
    if kubectl() is None:
        pytest.skip(NO_KUBECTL)
    return render_all(kustomizations(K8S / "overlays"))


@pytest.fixture(scope="session")
def subset() -> dict[str, Draft7Validator]:
    """Schemas of Ray's kinds, of what we use."""
    return own_subset(Path(__file__).with_name("ray-subset.yaml"))


@pytest.fixture(scope="session")
def ray_schemas(subset: dict[str, Draft7Validator]) -> dict[str, Draft7Validator]:
    """The published schemas of Ray's kinds where there are any, else the subset."""
    root = os.environ.get("METADIST_DATA_ROOT")
    folder = Path(root) / "crd" if root else None
    return published(folder) if folder and folder.is_dir() else subset


@pytest.fixture(scope="session")
def told() -> frozenset[tuple[str, str]]:
    """The Secrets of the README."""
    return secrets_told((K8S / "README.md").read_text(encoding="utf-8"))
