"""What KubeRay's operator (1.7.0) demands of a cluster's optional blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from manifests.clusters import ALPHA, EMBEDDED_STORAGE, Cluster
from manifests.documents import at
from manifests.pods import cluster_pods
from manifests.rules import Rules

rule: Rules[Cluster] = Rules()

_LABEL_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_REDIS = ("redisAddress", "redisUsername", "redisPassword", "externalStorageNamespace")
_ANNOTATIONS = ("ray.io/ft-enabled", "ray.io/external-storage-namespace")
_DIRECTIONS = {
    "DenyAll": (),
    "DenyAllIngress": ("egressRules",),
    "DenyAllEgress": ("ingressRules",),
}


def _mounted(cluster: Cluster, word: str) -> list[str]:
    """Volumes and mounts that sound like the operator's own, whose names are nowhere documented."""
    pods = list(cluster_pods(cluster.spec, cluster.where))
    volumes = [v["name"] for pod in pods for v in pod.spec.get("volumes") or []]
    mounts = [m for pod in pods for c in pod.containers for m in c.get("volumeMounts") or []]
    names = {*volumes, *(m["name"] for m in mounts), *(m["mountPath"] for m in mounts)}
    return sorted(name for name in names if word in name.lower())


@rule
def gcs_in_one_place(cluster: Cluster) -> Iterator[str]:
    """The head's storage is described by gcsFaultToleranceOptions or in the old ways, not both."""
    options = cluster.spec.get("gcsFaultToleranceOptions")
    by_hand = {"RAY_REDIS_ADDRESS"} & cluster.variables
    if options is None:
        if by_hand:
            yield f"{cluster.where}: RAY_REDIS_ADDRESS without gcsFaultToleranceOptions"
        if "redis-username" in cluster.head.params or "REDIS_USERNAME" in cluster.variables:
            yield f"{cluster.where}: a Redis username outside gcsFaultToleranceOptions"
        return
    found = [a for a in _ANNOTATIONS if a in (cluster.metadata.get("annotations") or {})]
    found += [p for p in ("redis-password", "redis-username") if p in cluster.head.params]
    found += sorted(by_hand | ({"REDIS_PASSWORD", "REDIS_USERNAME"} & cluster.variables))
    if found:
        yield f"{cluster.where}: {', '.join(found)} beside gcsFaultToleranceOptions"


@rule
def gcs_redis(cluster: Cluster) -> Iterator[str]:
    """Redis has an address and no storage."""
    options = cluster.spec.get("gcsFaultToleranceOptions")
    if options is None or options.get("backend", "redis") != "redis":
        return
    if not options.get("redisAddress"):
        yield f"{cluster.where}: backend redis without redisAddress"
    if "storage" in options:
        yield f"{cluster.where}: storage is for backend rocksdb only"


@rule
def gcs_rocksdb(cluster: Cluster) -> Iterator[str]:
    """RocksDB needs its gate, and no word of Redis; a claim that exists has its own size."""
    options = cluster.spec.get("gcsFaultToleranceOptions") or {}
    if options.get("backend") != "rocksdb":
        return
    if EMBEDDED_STORAGE not in cluster.gates:
        yield f"{cluster.where}: backend rocksdb is alpha, behind the gate {EMBEDDED_STORAGE}"
    if redis := [key for key in _REDIS if key in options]:
        yield f"{cluster.where}: {', '.join(redis)} with backend rocksdb"
    storage = options.get("storage") or {}
    if "claimName" in storage:
        own = [key for key in ("size", "storageClassName", "accessModes") if key in storage]
        if own:
            yield f"{cluster.where}: {', '.join(own)} beside claimName"
    if by_hand := sorted(v for v in cluster.variables if v.startswith("RAY_gcs_storage")):
        yield f"{cluster.where}: {', '.join(by_hand)} are set by hand"
    if own := _mounted(cluster, "gcs"):
        yield f"{cluster.where}: {', '.join(own)}: the operator mounts the database itself"


@rule
def alpha_gates(cluster: Cluster) -> Iterator[str]:
    """What is alpha is refused by an operator whose gate is off."""
    for field, gate in ALPHA.items():
        if field in cluster.spec and gate not in cluster.gates:
            yield f"{cluster.where}: {field} is alpha, behind the gate {gate}"


@rule
def network_policy(cluster: Cluster) -> Iterator[str]:
    """Rules are for a direction that is denied, of groups that exist."""
    if (policy := cluster.spec.get("networkPolicy")) is None:
        return
    idle = _DIRECTIONS.get(policy.get("mode", "DenyAll"), ())
    parts = [
        policy.get("head") or {},
        policy.get("worker") or {},
        *(policy.get("workerGroups") or []),
    ]
    for part in parts:
        for direction in idle:
            if part.get(direction):
                yield f"{cluster.where}: {direction} under mode {policy['mode']}, which denies none"
    names = {group.spec.get("groupName") for group in cluster.workers}
    for name in (part.get("groupName") for part in policy.get("workerGroups") or []):
        if name not in names:
            yield f"{cluster.where}: networkPolicy names a group {name}, which there is not"
    # They become parts of the policies' names, all of them.
    for name in sorted(str(n) for n in names if not _LABEL_1123.fullmatch(str(n))):
        yield f"{cluster.where}: a group named {name} beside networkPolicy is no DNS-1123 label"


@rule
def tls(cluster: Cluster) -> Iterator[str]:
    """Certificates are the operator's business alone."""
    if not at(cluster.spec, "tlsOptions.enabled"):
        return
    autoscaler = {e["name"] for e in at(cluster.spec, "autoscalerOptions.env") or []}
    set_by_hand = cluster.variables | autoscaler
    ours = sorted(v for v in set_by_hand if v.startswith(("RAY_USE_TLS", "RAY_TLS_")))
    if ours:
        yield f"{cluster.where}: {', '.join(ours)} beside tlsOptions"
    if own := _mounted(cluster, "tls"):
        yield f"{cluster.where}: {', '.join(own)}: the operator mounts the certificates itself"
