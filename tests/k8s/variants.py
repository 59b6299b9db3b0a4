"""Objects of k8s/ with other optional blocks than it uses; all of them are right.

``cluster`` is the standing RayCluster, ``job`` a RayJob with its cluster.
"""

from __future__ import annotations

from tests.k8s.edits import GONE, Edits

HEAD = "spec.headGroupSpec"
HEAD_POD = f"{HEAD}.template.spec"
WORKERS = "spec.workerGroupSpecs.0"
WORKER_POD = f"{WORKERS}.template.spec"
WORKER = f"{WORKER_POD}.containers.0"
STORE = "object-store-memory"
_RESTARTS = {f"{HEAD_POD}.restartPolicy": "Never", f"{WORKER_POD}.restartPolicy": "Never"}


def shared_memory(size: str, memory: str, **params: str) -> Edits:
    """Workers of so much memory with a /dev/shm of their own."""
    return {
        f"{WORKER_POD}.volumes.+": {
            "name": "dshm",
            "emptyDir": {"medium": "Memory", "sizeLimit": size},
        },
        f"{WORKER}.volumeMounts.+": {"name": "dshm", "mountPath": "/dev/shm"},
        f"{WORKER}.resources": {name: {"memory": memory} for name in ("requests", "limits")},
        f"{WORKERS}.rayStartParams": params,
    }


#: Name -> object it is made from, edits. All of them are right.
VARIANTS: dict[str, tuple[str, Edits]] = {
    "scaling": (
        "cluster",
        {
            "spec.enableInTreeAutoscaling": True,
            "spec.autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 300},
            f"{WORKERS}.maxReplicas": 8,
            f"{WORKERS}.idleTimeoutSeconds": 300,
            f"{WORKERS}.priority": 1,
            **_RESTARTS,
        },
    ),
    "sharing": ("cluster", shared_memory("10Gi", "32Gi")),
    "sharing-little": ("cluster", shared_memory("4Gi", "32Gi", **{STORE: "2000000000"})),
    "redis": (
        "cluster",
        {"spec.gcsFaultToleranceOptions": {"backend": "redis", "redisAddress": "redis:6379"}},
    ),
    "rocksdb": (
        "cluster",
        {"spec.gcsFaultToleranceOptions": {"backend": "rocksdb", "storage": {"size": "1Gi"}}},
    ),
    "policed": (
        "cluster",
        {
            "spec.networkPolicy": {
                "mode": "DenyAllIngress",
                "head": {"ingressRules": [{}]},
                "workerGroups": [{"groupName": "workers", "ingressRules": [{}]}],
            }
        },
    ),
    "encrypted": ("cluster", {"spec.tlsOptions": {"enabled": True}}),
    "selecting": (
        "job",
        {
            "spec.rayClusterSpec": GONE,
            "spec.clusterSelector": {"ray.io/cluster": "metadist"},
            "spec.deletionStrategy": GONE,
            "spec.backoffLimit": 0,
        },
    ),
    "suspended": (
        "job",
        {
            "spec.suspend": True,
            "spec.deletionStrategy": GONE,
            "spec.shutdownAfterJobFinishes": True,
            "spec.ttlSecondsAfterFinished": 60,
        },
    ),
    "sidecar": (
        "job",
        {
            "spec.submissionMode": "SidecarMode",
            "spec.submitterPodTemplate": GONE,
            "spec.submitterConfig": GONE,
        },
    ),
}
