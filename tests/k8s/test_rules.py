"""Every rule finds the mistakes that are planted for it, and nothing in what is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from manifests.clusters import GATES, object_store, quantity
from manifests.documents import Manifest
from manifests.kustomizations import collect
from manifests.validation import NAMES, problems
from manifests.whole import Whole, secrets_told
from manifests.whole_rules import admits

from tests.k8s.edits import Edits, edited
from tests.k8s.mistakes import MISTAKES, UNGATED
from tests.k8s.places import K8S, RAY
from tests.k8s.variants import VARIANTS

_README = (K8S / "README.md").read_text(encoding="utf-8")
#: As the component pvc-rwx adds it to every pod.
_SHARED: dict[str, Edits] = {
    part: {
        f"spec.rayClusterSpec.{part}.template.spec.volumes.+": {
            "name": "shared",
            "persistentVolumeClaim": {"claimName": "mlflow-artifacts"},
        },
        f"spec.rayClusterSpec.{part}.template.spec.containers.0.volumeMounts.+": {
            "name": "shared",
            "mountPath": "/mnt/metadist",
        },
    }
    for part in ("headGroupSpec", "workerGroupSpecs.0")
}


@pytest.fixture(scope="module")
def right() -> dict[str, Manifest]:
    """Objects without a mistake, by kind and name; the cluster and a job by short names."""
    objects = [*collect(K8S / "base"), *collect(K8S / "mlflow")]
    jobs = [m for m in collect(K8S / "jobs" / "train") if m.kind == "RayJob"]
    found = {m.where: m for m in objects}
    found["cluster"] = found.pop("RayCluster/metadist")
    found["job"] = edited(jobs[0], {k: v for part in _SHARED.values() for k, v in part.items()})
    return found


def whole(objects: dict[str, Manifest]) -> Whole:
    return Whole(list(objects.values()), [], RAY, secrets_told(_README))


def broken(right: dict[str, Manifest], name: str, edits: Edits, gates=GATES) -> Iterator[str]:
    """Names of the rules that find something after edits of one object or variant."""
    base, first = VARIANTS.get(name, (name, {}))
    assert base in right
    changed = {**right, base: edited(edited(right[base], first), edits)}
    yield from (p.rule for p in problems(whole(changed), gates))


def test_what_is_right_breaks_no_rule(right):
    assert problems(whole(right)) == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_right_otherwise_breaks_no_rule(right, variant):
    assert list(broken(right, variant, {})) == []


@pytest.mark.parametrize(
    ("rule", "name", "edits"), MISTAKES, ids=[f"{i}-{m[0]}" for i, m in enumerate(MISTAKES)]
)
def test_a_planted_mistake_is_found(right, rule, name, edits):
    assert rule in set(broken(right, name, edits))


@pytest.mark.parametrize(("rule", "variant"), UNGATED)
def test_alpha_is_refused_without_its_gate(right, rule, variant):
    assert set(broken(right, variant, {}, gates=frozenset())) == {rule}


@pytest.mark.slow
@pytest.mark.parametrize(
    "host", ["mlflow", "mlflow:5000", "mlflow:80", "a.svc.cluster.local:5000", "10.0.0.1:5000"]
)
def test_hosts_are_admitted_as_mlflow_admits_them(host):
    from mlflow.server.security_utils import is_allowed_host_header

    for allowed in (["mlflow", "mlflow:5000"], ["*.svc.cluster.local:5000"], ["10.*"]):
        assert admits(allowed, host) == is_allowed_host_header(allowed, host)


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("500m", 0.5), ("1e9", 1e9), ("4Gi", 4 * 2**30), ("8Ki", 8192), ("3M", 3e6)],
)
def test_quantities(text, number):
    assert quantity(text) == number


@pytest.mark.parametrize("memory", ["8Gi", "32Gi", "256Gi", "2Ti"])
@pytest.mark.parametrize("shared", ["64Mi", "4Gi", "16Gi", "1Ti"])
def test_the_object_store_is_what_ray_makes_it(monkeypatch, memory, shared):
    from ray._private import utils

    memory, shared = int(quantity(memory)), int(quantity(shared))
    monkeypatch.setattr(utils, "get_shared_memory_bytes", lambda: shared)
    assert object_store(memory, shared) == pytest.approx(
        utils.resolve_object_store_memory(memory), abs=1
    )


def test_every_rule_has_a_mistake():
    assert {m[0] for m in MISTAKES} | {m[0] for m in UNGATED} == NAMES
