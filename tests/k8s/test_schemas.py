"""The schemas that manifests are held to refuse what an API server would."""

from __future__ import annotations

import re

import pytest
from manifests.core_schema import core_errors
from manifests.crd_schema import published, translate
from manifests.documents import Manifest
from manifests.kustomizations import collect
from manifests.validation import schema_errors

from tests.k8s.edits import GONE, edited
from tests.k8s.places import K8S

_HEAD = "spec.headGroupSpec"
_WORKERS = "spec.workerGroupSpecs.0"

#: Object, edits, what the message says.
MISTAKES = [
    ("PodDisruptionBudget/ray-head", {"spec.minAvailabl": 1}, "minAvailabl"),
    ("PodDisruptionBudget/ray-head", {"apiVersion": "policy/v1beta1"}, "no such kind"),
    ("Deployment/mlflow", {"spec.replicas": "one"}, "spec.replicas"),
    ("Deployment/mlflow", {"spec.template.spec.contianers": []}, "contianers"),
    ("StatefulSet/mlflow-postgres", {"spec.selector": GONE}, "selector"),
    ("NetworkPolicy/dashboard", {"spec.ingress.0.form": []}, "form"),
    ("Role/metadist-researcher", {"rules.0.verb": ["get"]}, "verb"),
    ("RayCluster/metadist", {"apiVersion": "ray.io/v1alpha1"}, "ray.io/v1"),
    ("RayCluster/metadist", {"spec.authOptions.mode": "tokens"}, "tokens"),
    ("RayCluster/metadist", {"spec.autoscalerOptions": {"verison": "v2"}}, "verison"),
    ("RayCluster/metadist", {f"{_WORKERS}.replicas": "two"}, "replicas"),
    ("RayCluster/metadist", {f"{_WORKERS}.groupName": GONE}, "groupName"),
    ("RayCluster/metadist", {f"{_HEAD}.rayStartParams.num-cpus": 0}, "num-cpus"),
    ("RayCluster/metadist", {f"{_HEAD}.template.spec.tolerration": []}, "tolerration"),
    (
        "RayCluster/metadist",
        {f"{_WORKERS}.template.spec.containers.0.resources.limit": {}},
        "limit",
    ),
    ("RayCluster/metadist", {"spec.gcsFaultToleranceOptions": {"backend": "etcd"}}, "etcd"),
    ("RayCluster/metadist", {"kind": "RayService"}, "no schema"),
    ("RayJob/metadist", {"spec.entrypiont": "x"}, "entrypiont"),
    ("RayJob/metadist", {"spec.deletionStrategy.deletionRules": []}, "deletionRules"),
    (
        "RayJob/metadist",
        {"spec.deletionStrategy.deletionRules.0.condition.jobStatus": "SUCCEDED"},
        "SUCCEDED",
    ),
    ("RayJob/metadist", {"spec.preRunningDeadlineSeconds": 0}, "preRunningDeadlineSeconds"),
    ("RayJob/metadist", {"spec.rayClusterSpec.headGroupSpec": GONE}, "headGroupSpec"),
    ("RayJob/metadist", {"spec.submitterPodTemplate.spec.containers": GONE}, "containers"),
]


@pytest.fixture(scope="module")
def right() -> dict[str, Manifest]:
    folders = (K8S / "base", K8S / "mlflow", K8S / "jobs" / "train")
    return {m.where: m for folder in folders for m in collect(folder)}


@pytest.mark.parametrize(
    ("name", "edits", "said"), MISTAKES, ids=[f"{m[0]}-{m[2]}" for m in MISTAKES]
)
def test_a_mistake_is_refused_by_every_schema(right, subset, ray_schemas, name, edits, said):
    for ray in (subset, ray_schemas):
        assert list(schema_errors([right[name]], ray)) == []
        errors = list(schema_errors([edited(right[name], edits)], ray))
        assert re.search(said, "\n".join(errors))


def test_the_published_schemas_are_used_where_there_are_any(data_root):
    validators = published(data_root / "crd")
    assert set(validators) == {"RayCluster", "RayJob"}
    # What the subset has not, because we do not use it.
    for mode, refused in (("DenyAll", False), ("Deny", True)):
        spec = {"networkPolicy": {"mode": mode}, "headGroupSpec": {"template": {}}}
        document = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {}, "spec": spec}
        assert bool(list(validators["RayCluster"].iter_errors(document))) == refused


def test_a_structural_schema_is_translated():
    schema = {
        "type": "object",
        "required": ["replicas", "image"],
        "properties": {
            "replicas": {"type": "integer", "default": 1},
            "image": {"type": "string", "nullable": True},
            "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]},
            "free": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {},
            },
            # Names of fields, not keywords.
            "properties": {"type": "object", "properties": {"items": {"type": "string"}}},
        },
    }
    made = translate(schema)
    assert made["required"] == ["image"]
    assert made["additionalProperties"] is False
    assert made["properties"]["image"]["type"] == ["string", "null"]
    assert made["properties"]["port"]["type"] == ["integer", "string"]
    assert "anyOf" not in made["properties"]["port"]
    assert "additionalProperties" not in made["properties"]["free"]
    inner = made["properties"]["properties"]
    assert inner == {
        "type": "object",
        "properties": {"items": {"type": "string"}},
        "additionalProperties": False,
    }


def test_a_kind_that_kubernetes_does_not_have_is_an_error():
    manifest = Manifest({"apiVersion": "apps/v1", "kind": "Deploiment", "metadata": {"name": "x"}})
    assert "no such kind" in "".join(core_errors(manifest))
