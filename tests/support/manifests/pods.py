"""The pod templates of an object, wherever its kind has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manifests.documents import Manifest, at

_PLAIN = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True)
class Pod:
    """A pod template.

    Attributes:
        where: object and path, for messages.
        template: metadata and spec.
        role: ``head`` or ``worker`` where KubeRay makes the pod a node of Ray, ``submitter`` where
            it makes it submit a job, else empty.
    """

    where: str
    template: dict[str, Any]
    role: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        return self.template.get("spec") or {}

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them, init containers too."""
        return [*(self.spec.get("initContainers") or []), *(self.spec.get("containers") or [])]

    @property
    def labels(self) -> dict[str, str]:
        """Those it will have: its own, and those the operator adds."""
        own = at(self.template, "metadata.labels") or {}
        if self.role not in ("head", "worker"):
            return dict(own)
        return {**own, "ray.io/is-ray-node": "yes", "ray.io/node-type": self.role}


def cluster_pods(spec: Any, where: str) -> Iterator[Pod]:
    """Those of a RayCluster's spec."""
    if isinstance(head := at(spec, "headGroupSpec.template"), dict):
        yield Pod(f"{where}.headGroupSpec", head, "head")
    for number, group in enumerate(at(spec, "workerGroupSpecs") or []):
        yield Pod(f"{where}.workerGroupSpecs.{number}", group.get("template") or {}, "worker")


def pods(manifest: Manifest) -> Iterator[Pod]:
    """Those of any object."""
    where, spec = manifest.where, manifest.body.get("spec") or {}
    if manifest.kind == "RayCluster":
        yield from cluster_pods(spec, where)
    elif manifest.kind == "RayJob":
        yield from cluster_pods(spec.get("rayClusterSpec"), f"{where}.rayClusterSpec")
        if isinstance(submitter := spec.get("submitterPodTemplate"), dict):
            yield Pod(f"{where}.submitterPodTemplate", submitter, "submitter")
    elif manifest.kind in _PLAIN:
        yield Pod(where, spec.get("template") or {})
