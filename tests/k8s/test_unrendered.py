"""What holds of the files alone; without kubectl this is all that can be known."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml
from manifests.clusters import GATES
from manifests.documents import Manifest, at, parse, read
from manifests.kustomizations import FILE, collect, file_problems
from manifests.rendering import kubectl, kustomizations
from manifests.validation import object_problems, schema_errors
from manifests.whole import secrets_told, secrets_used

from metadist.recipe.schema import load_recipe
from tests.k8s.places import K8S, OVERLAYS, ROOT

_ALL = [*kustomizations(K8S), *kustomizations(K8S, "Component")]


def test_every_yaml_file_is_a_kustomization_or_named_by_one():
    named = {
        (folder / entry).resolve()
        for folder in _ALL
        for key in ("resources", "configurations")
        for entry in at(read(folder / FILE)[0], key) or []
    }
    files = {p.resolve() for p in K8S.rglob("*.yaml")} - {(f / FILE).resolve() for f in _ALL}
    assert files == {path for path in named if path.is_file()}


@pytest.mark.parametrize("folder", _ALL, ids=lambda p: str(p.relative_to(K8S)))
def test_a_kustomization_and_its_objects_are_valid(subset, folder):
    assert list(file_problems(folder)) == []
    objects = collect(folder)
    assert list(schema_errors(objects, subset)) == []
    assert list(object_problems(objects, GATES)) == []


def test_every_secret_is_in_the_readme_and_every_one_there_is_used():
    told = secrets_told((K8S / "README.md").read_text(encoding="utf-8"))
    patches = [p["patch"] for folder in _ALL for p in at(read(folder / FILE)[0], "patches") or []]
    objects = [Manifest({"patch": document}) for patch in patches for document in parse(patch)]
    objects += [m for folder in _ALL for m in collect(folder)]
    assert {pair for m in objects for pair in secrets_used(m)} == told


@pytest.mark.parametrize("page", ["k8s/README.md", "docs/kubernetes.md"])
def test_a_page_names_files_that_there_are(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])k8s/[\w./-]*\w", text))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    short = re.findall(r"`((?:base|jobs|mlflow|components|overlays|image)/[\w./-]*)`", text)
    assert [name for name in short if not (K8S / name).exists()] == []


@pytest.mark.slow
def test_a_rendering_has_the_objects_that_the_files_have(rendered):
    """What stands in for kustomize where there is none reads the same kustomizations."""
    for folder in OVERLAYS:
        names = {m.where for m in collect(folder) if m.kind != "ConfigMap"}
        there = {m.where for m in rendered[folder] if m.kind != "ConfigMap"}
        # A bucket takes the place of this one, by a patch.
        assert names - {"PersistentVolumeClaim/mlflow-artifacts"} == there - {
            "PersistentVolumeClaim/mlflow-artifacts"
        }


@pytest.mark.parametrize("path", sorted(K8S.rglob("*.toml")), ids=lambda p: p.name)
def test_a_recipe_can_be_trained(path):
    assert load_recipe(str(path)).outer.steps > 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("resources: [raycluster.yml]", "is no file"),
        ("resuorces: [raycluster.yaml]", "unknown keys resuorces"),
        ("components: [recipes]", "is no component"),
        ("configurations: [images.yaml]", "there is no file"),
        ("configMapGenerator: [{name: x, files: [recipes/none.toml]}]", "there is no file"),
        ("patches: [{patch: '- {op: add, path: /a, value: 1}'}]", "without target"),
        ("patches: [{target: {kind: X}, patch: '- {op: ad, path: /a}'}]", "no operation"),
        ("patches: [{target: {kind: X}, patch: '- {op: add, path: /a}'}]", "no operation"),
        ("patches: [{target: {kind: X}, patch: '- {op: remove, path: a}'}]", "from the top"),
        ("patches: [{target: {kind: X}, patch: '{a: [}'}]", "no YAML"),
        ("patches: [{target: {kind: X}, patch: 'a: 1'}]", "neither"),
        ("patches: [{target: {kind: X}, path: patch.yaml}]", "a patch with path"),
        ("kind: Kustomisation", "Kustomisation"),
    ],
)
def test_a_mistake_in_a_kustomization_is_found_without_kustomize(tmp_path, wrong, said):
    shutil.copytree(K8S / "base" / "cluster", tmp_path, dirs_exist_ok=True)
    good = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (change,) = parse(wrong)
    (tmp_path / FILE).write_text(yaml.safe_dump({**good, **change}))
    assert said in "\n".join(file_problems(tmp_path))


def test_without_a_new_enough_kubectl_there_is_none(tmp_path, monkeypatch):
    old = tmp_path / "kubectl"
    old.write_text("#!/bin/sh\necho 'Client Version: v1.20.2'\n")
    old.chmod(0o755)
    for path in (tmp_path, tmp_path / "nothing"):
        monkeypatch.setenv("PATH", f"{path}:/bin")
        kubectl.cache_clear()
        if shutil.which("kubectl") in (None, str(old)):
            assert kubectl() is None
    monkeypatch.undo()
    kubectl.cache_clear()
