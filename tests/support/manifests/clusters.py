"""A Ray cluster as the operator sees it: that of a RayCluster, or the one inside a RayJob."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manifests.documents import Manifest, at
from manifests.pods import cluster_pods
from packaging.version import InvalidVersion, Version

#: The operator's feature gates that are off unless somebody turns them on, and what they guard.
ALPHA = {
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
    "historyServerOptions": "RayClusterHistoryServer",
}
EMBEDDED_STORAGE = "GCSFaultToleranceEmbeddedStorage"
GATES = frozenset([*ALPHA.values(), EMBEDDED_STORAGE])


_UNITS: dict[str, float] = {"": 1, "m": 1e-3} | {
    f"{prefix}{i}": (1024 if i else 1000) ** power
    for power, prefix in enumerate(("k", "M", "G", "T"), start=1)
    for i in ("", "i")
}
_UNITS["Ki"] = _UNITS.pop("ki")


def quantity(text: object) -> float:
    """A quantity of Kubernetes, as in ``500m``, ``4Gi`` or ``1e9``."""
    number = str(text).rstrip("".join(_UNITS))
    return float(number) * _UNITS[str(text).removeprefix(number)]


def object_store(memory: float, shared: float) -> int:
    """What Ray (2.60) gives its object store of a pod's memory where /dev/shm has so much room.

    More than there is in /dev/shm, up to 10 GB; then it takes /tmp instead.
    """
    return int(min(0.3 * memory, max(1e10, 0.95 * shared), 2e11))


@dataclass(frozen=True)
class Group:
    """The head or a group of workers."""

    where: str
    spec: dict[str, Any]

    @property
    def params(self) -> dict[str, str]:
        return self.spec.get("rayStartParams") or {}

    @property
    def containers(self) -> list[dict[str, Any]]:
        return at(self.spec, "template.spec.containers") or []

    @property
    def restarts(self) -> str | None:
        """The restart policy, if one is set."""
        policy: str | None = at(self.spec, "template.spec.restartPolicy")
        return policy

    @property
    def shared_memory(self) -> float | None:
        """The bound of a /dev/shm of its own; without, KubeRay mounts one of the memory's size."""
        volumes = at(self.spec, "template.spec.volumes") or []
        for container in self.containers[:1]:
            mounts = container.get("volumeMounts") or []
            names = {m["name"] for m in mounts if m["mountPath"] == "/dev/shm"}
            bounds = [at(v, "emptyDir.sizeLimit") for v in volumes if v["name"] in names]
            return next((quantity(bound) for bound in bounds if bound is not None), None)
        return None

    @property
    def object_store(self) -> float:
        """The bytes of Ray's object store: those asked for, or those that Ray chooses."""
        if (asked := self.params.get("object-store-memory")) is not None:
            return float(asked)
        limit = at(self.containers[0], "resources.limits.memory")
        memory = math.inf if limit is None else quantity(limit)
        return object_store(memory, self.shared_memory or 0)

    def size(self, resource: str) -> int:
        """How much of a resource Ray takes each pod to have: its container's limit, rounded up."""
        limit = str(at(self.containers[0], "resources.limits", {}).get(resource, 0))
        if limit.endswith("m"):
            return math.ceil(int(limit.removesuffix("m")) / 1000)
        return math.ceil(float(limit))


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster.

    Attributes:
        where: for messages.
        name: of the object that it stands in.
        metadata: of a RayCluster; empty inside a RayJob.
        in_job: whether a RayJob makes it.
        gates: the feature gates of the operator that may be taken to be on.
    """

    where: str
    name: str
    spec: dict[str, Any]
    metadata: dict[str, Any]
    in_job: bool
    gates: frozenset[str]

    @property
    def head(self) -> Group:
        return Group(f"{self.where}.headGroupSpec", self.spec.get("headGroupSpec") or {})

    @property
    def workers(self) -> list[Group]:
        groups = self.spec.get("workerGroupSpecs") or []
        return [Group(f"{self.where}.workerGroupSpecs.{i}", g) for i, g in enumerate(groups)]

    @property
    def groups(self) -> list[Group]:
        return [self.head, *self.workers]

    @property
    def scales_itself(self) -> bool:
        return bool(self.spec.get("enableInTreeAutoscaling"))

    @property
    def autoscaler_v2(self) -> bool:
        asked = at(self.spec, "autoscalerOptions.version") == "v2"
        return self.scales_itself and (asked or "RAY_enable_autoscaler_v2" in self.variables)

    @property
    def token(self) -> bool:
        return bool(at(self.spec, "authOptions.mode") == "token")

    @property
    def variables(self) -> set[str]:
        """The environment variables that are set by hand in any container of Ray's pods."""
        pods = cluster_pods(self.spec, self.where)
        return {e["name"] for p in pods for c in p.containers for e in c.get("env") or []}

    def at_least(self, version: str) -> bool:
        """Whether ``rayVersion`` is set and not older."""
        try:
            return Version(str(self.spec.get("rayVersion"))) >= Version(version)
        except InvalidVersion:
            return False


def clusters(manifest: Manifest, gates: frozenset[str] = frozenset()) -> Iterator[Cluster]:
    """The cluster of an object, if it has one."""
    spec, metadata = manifest.body.get("spec") or {}, manifest.body.get("metadata") or {}
    if manifest.kind == "RayCluster":
        yield Cluster(manifest.where, manifest.name, spec, metadata, False, gates)
    elif manifest.kind == "RayJob" and isinstance(inner := spec.get("rayClusterSpec"), dict):
        where = f"{manifest.where}.rayClusterSpec"
        yield Cluster(where, manifest.name, inner, {}, True, gates)
