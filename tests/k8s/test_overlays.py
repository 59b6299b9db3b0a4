"""What is applied to a cluster: every overlay, the platform and its jobs, and every component."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from manifests.clusters import GATES
from manifests.documents import Manifest, at, read
from manifests.kustomizations import FILE
from manifests.pods import pods
from manifests.rendering import RenderError, kubectl, render
from manifests.validation import problems, schema_errors
from manifests.whole import Whole

from tests.k8s.places import COMPONENTS, K8S, NO_KUBECTL, OVERLAYS, RAY

JOBS = ("train", "tune", "evaluate")
#: Components that no overlay has, with what they need.
COMPOSED = [
    ("pvc-rwx", "elastic"),
    ("pvc-rwx", "s3", "gcs-rocksdb-alpha", "mtls-alpha", "history-server-alpha"),
]


def test_there_are_overlays_and_components():
    assert {p.name for p in OVERLAYS} == {"local-kind", "cpu", "gpu", "prod"}
    expected = {"gpu", "spot", "elastic", "pvc-rwx", "s3", "egress", "kueue", "gcs-redis"}
    expected |= {"gcs-rocksdb-alpha", "mtls-alpha", "history-server-alpha"}
    assert {p.name for p in COMPONENTS} == expected


@pytest.mark.parametrize("part", ["", *JOBS])
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)
def test_an_overlay_is_valid(rendered, ray_schemas, told, overlay: Path, part: str):
    objects = rendered[overlay / part]
    beside = rendered[overlay] if part else []
    assert list(schema_errors(objects, ray_schemas)) == []
    assert problems(Whole(objects, beside, RAY, told)) == []


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)
def test_an_overlay_has_the_platform(rendered, overlay: Path):
    kinds = {m.kind for m in rendered[overlay]}
    assert kinds >= {"Namespace", "RayCluster", "NetworkPolicy", "PodDisruptionBudget"}
    assert kinds >= {"ServiceAccount", "Role", "RoleBinding", "Deployment", "StatefulSet"}
    assert "RayJob" not in kinds


@pytest.mark.parametrize("part", JOBS)
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)
def test_deleting_a_job_deletes_nothing_else(rendered, overlay: Path, part: str):
    """What a job's folder applies is what `kubectl delete -k` of it takes away again."""
    objects = rendered[overlay / part]
    assert sorted(m.kind for m in objects) == ["ConfigMap", "RayJob"]
    others = rendered[overlay] + [m for j in JOBS if j != part for m in rendered[overlay / j]]
    assert not {m.where for m in objects} & {m.where for m in others}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)
def test_images_are_the_overlays_own_everywhere(rendered, overlay: Path):
    objects = [m for part in ("", *JOBS) for m in rendered[overlay / part]]
    images = {c["image"] for m in objects for pod in pods(m) for c in pod.containers}
    ours = {image for image in images if "metadist" in image}
    prefix = "" if overlay.name == "local-kind" else "registry.example.com/"
    assert ours == {f"{prefix}metadist:0.1.0", f"{prefix}metadist-mlflow:0.1.0"}


def test_a_changed_recipe_reaches_the_pods(rendered):
    """The ConfigMap's name has a hash of its contents, and Ray's pods name it so."""
    for folder in (OVERLAYS[0], OVERLAYS[0] / "train"):
        (made,) = (m.name for m in rendered[folder] if m.kind == "ConfigMap")
        assert len(made.rsplit("-", 1)[-1]) == 10
        nodes = [pod for m in rendered[folder] for pod in pods(m) if pod.role in ("head", "worker")]
        assert [at(pod.spec, "volumes.0.configMap.name") for pod in nodes] == [made, made]


def test_a_job_has_the_overlays_cluster(rendered):
    """Size, devices and volumes of the standing cluster are those of the jobs."""
    for overlay in OVERLAYS:
        (standing,) = (m for m in rendered[overlay] if m.kind == "RayCluster")
        (job,) = (m for m in rendered[overlay / "train"] if m.kind == "RayJob")
        path = "workerGroupSpecs.0.template.spec.containers.0.resources"
        ours, theirs = job.body["spec"]["rayClusterSpec"], standing.body["spec"]
        assert at(ours, path) == at(theirs, path) is not None
        assert at(ours, "workerGroupSpecs.0.replicas") == at(theirs, "workerGroupSpecs.0.replicas")
        assert "upgradeStrategy" in theirs
        assert "upgradeStrategy" not in ours


def _used(folder: Path) -> set[Path]:
    """The components of a kustomization, and theirs."""
    named = at(read(folder / FILE)[0], "components") or []
    direct = {(folder / entry).resolve() for entry in named}
    return direct.union(*map(_used, direct))


def test_every_component_is_rendered_somewhere():
    in_overlays = set().union(*map(_used, OVERLAYS))
    composed = {K8S / "components" / name for names in COMPOSED for name in names}
    assert {p.resolve() for p in COMPONENTS} - in_overlays - {
        p.resolve() for p in composed
    } == set()


def _compose(folder: Path, resource: Path, components: list[Path]) -> list[Manifest]:
    """A rendering of a resource with components."""
    relative = [os.path.relpath(p, folder) for p in (resource, *components)]
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources:"]
    lines += [f"  - {relative[0]}", "components:", *(f"  - {path}" for path in relative[1:])]
    (folder / FILE).write_text("\n".join(lines) + "\n")
    return render(folder)


@pytest.mark.parametrize("names", COMPOSED, ids="+".join)
def test_components_that_no_overlay_has_are_valid(tmp_path, ray_schemas, told, names):
    if kubectl() is None:
        pytest.skip(NO_KUBECTL)
    alpha = [name for name in names if name.endswith("-alpha")]
    gates = GATES if alpha else frozenset()
    chosen = [K8S / "components" / name for name in names]
    base = _compose(tmp_path.resolve(), K8S / "base", chosen)
    job = _compose(
        tmp_path.resolve(), K8S / "jobs" / "train", [*chosen, K8S / "jobs" / "with-cluster"]
    )
    for objects, beside in ((base, []), (job, base)):
        assert list(schema_errors(objects, ray_schemas)) == []
        assert problems(Whole(objects, beside, RAY, told), gates) == []
        # Only what is named so is alpha, and all of it is.
        found = {str(p).split("gate ")[-1] for p in problems(Whole(objects, beside, RAY, told))}
        assert len(found) == len(alpha)
        assert found <= GATES


def test_a_kustomization_that_does_not_render_is_an_error(tmp_path):
    if kubectl() is None:
        pytest.skip(NO_KUBECTL)
    with pytest.raises(RenderError, match="nowhere"):
        _compose(tmp_path.resolve(), tmp_path / "nowhere", [])
