"""One planted mistake, or several, for every rule: object, what is changed in it, rule.

An object is named by kind and name; ``cluster`` is the standing RayCluster, ``job`` a RayJob with
its cluster. Mistakes are made in the variants too.
"""

from __future__ import annotations

from typing import Any

from tests.k8s.edits import GONE, Edits
from tests.k8s.variants import HEAD, HEAD_POD, STORE, WORKER, WORKER_POD, WORKERS, shared_memory

_JOBS_WORKER = "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0"
_RULES = "spec.deletionStrategy.deletionRules"


def _variable(name: str, value: str = "1") -> dict[str, str]:
    return {"name": name, "value": value}


def _deletion(policy: str, seconds: int, **condition: str) -> dict[str, Any]:
    return {"policy": policy, "condition": {**condition, "ttlSeconds": seconds}}


#: Rule, object or variant, edits.
MISTAKES: list[tuple[str, str, Edits]] = [
    # clusters
    ("cluster-name", "cluster", {"metadata.name": "m" * 54}),
    ("cluster-name", "cluster", {"metadata.name": "1st"}),
    ("ray-container", "cluster", {f"{HEAD_POD}.containers": []}),
    ("ray-container", "cluster", {f"{WORKER}.name": "proxy"}),
    ("replicas", "cluster", {f"{WORKERS}.maxReplicas": 1}),
    ("replicas", "cluster", {f"{WORKERS}.replicas": GONE}),
    ("replicas", "cluster", {f"{WORKERS}.minReplicas": -1}),
    ("replicas", "cluster", {f"{WORKERS}.maxReplicas": 3}),
    ("autoscaler", "scaling", {f"{HEAD_POD}.restartPolicy": "Always"}),
    ("autoscaler", "scaling", {f"{WORKER}.env.+": _variable("RAY_enable_autoscaler_v2")}),
    ("autoscaler", "cluster", {f"{WORKER}.env.+": _variable("RAY_enable_autoscaler_v2")}),
    ("idle-timeout", "scaling", {f"{WORKERS}.idleTimeoutSeconds": -1}),
    ("idle-timeout", "scaling", {"spec.autoscalerOptions.idleTimeoutSeconds": -1}),
    ("idle-timeout", "cluster", {f"{WORKERS}.idleTimeoutSeconds": 60}),
    ("priority", "cluster", {f"{WORKERS}.priority": 1}),
    ("priority", "scaling", {"spec.rayVersion": "2.55.1"}),
    ("suspended-group", "scaling", {f"{WORKERS}.suspend": True}),
    (
        "autoscaler-command",
        "scaling",
        {"spec.autoscalerOptions.env.+": _variable("KUBERAY_GEN_AUTOSCALER_START_CMD")},
    ),
    ("resources-once", "cluster", {f"{HEAD}.resources": {"CPU": "1"}}),
    ("object-store", "cluster", shared_memory("4Gi", "32Gi")),
    ("object-store", "cluster", shared_memory("2Gi", "8Gi")),
    ("object-store", "cluster", shared_memory("1900M", "32Gi", **{STORE: "2000000000"})),
    ("object-store", "cluster", shared_memory("9Gi", "256Gi")),
    ("object-store", "sharing-little", {f"{WORKERS}.rayStartParams": {}}),
    ("ray-labels", "cluster", {f"{WORKERS}.rayStartParams.labels": "a=b"}),
    ("ray-labels", "cluster", {f"{WORKERS}.labels": {"-no label": "x"}}),
    ("ray-labels", "cluster", {f"{WORKERS}.labels": {"zone": "not one!"}}),
    ("token", "cluster", {"spec.authOptions.mode": GONE}),
    ("token", "cluster", {"spec.authOptions": GONE}),
    ("token", "cluster", {"spec.authOptions.mode": "disabled"}),
    ("token", "cluster", {"spec.rayVersion": "2.51.0"}),
    ("token", "cluster", {"spec.rayVersion": GONE}),
    ("kubernetes-token", "cluster", {"spec.authOptions.enableK8sTokenAuth": True}),
    (
        "kubernetes-token",
        "cluster",
        {
            "spec.authOptions": {"mode": "token", "enableK8sTokenAuth": True},
            "spec.rayVersion": "2.54.0",
        },
    ),
    (
        "kubernetes-token",
        "job",
        {"spec.rayClusterSpec.authOptions": {"mode": "token", "enableK8sTokenAuth": True}},
    ),
    ("token-by-hand", "cluster", {f"{WORKER}.env.+": _variable("RAY_AUTH_MODE", "token")}),
    ("upgrade", "cluster", {"spec.upgradeStrategy": {"type": "Rolling"}}),
    ("upgrade", "job", {"spec.rayClusterSpec.upgradeStrategy": {"type": "Recreate"}}),
    ("head-does-no-work", "cluster", {f"{HEAD}.rayStartParams": {}}),
    ("head-does-no-work", "cluster", {f"{HEAD}.serviceType": "LoadBalancer"}),
    ("head-does-no-work", "cluster", {f"{HEAD}.enableIngress": True}),
    # optional blocks
    ("gcs-in-one-place", "redis", {"metadata.annotations": {"ray.io/ft-enabled": "true"}}),
    (
        "gcs-in-one-place",
        "redis",
        {"metadata.annotations": {"ray.io/external-storage-namespace": "x"}},
    ),
    ("gcs-in-one-place", "redis", {f"{HEAD}.rayStartParams.redis-password": "$PASSWORD"}),
    ("gcs-in-one-place", "redis", {f"{HEAD_POD}.containers.0.env.+": _variable("REDIS_USERNAME")}),
    ("gcs-in-one-place", "cluster", {f"{WORKER}.env.+": _variable("RAY_REDIS_ADDRESS")}),
    ("gcs-in-one-place", "cluster", {f"{HEAD}.rayStartParams.redis-username": "me"}),
    ("gcs-redis", "redis", {"spec.gcsFaultToleranceOptions.redisAddress": GONE}),
    ("gcs-redis", "redis", {"spec.gcsFaultToleranceOptions.storage": {"size": "1Gi"}}),
    ("gcs-rocksdb", "rocksdb", {"spec.gcsFaultToleranceOptions.redisAddress": "redis:6379"}),
    (
        "gcs-rocksdb",
        "rocksdb",
        {"spec.gcsFaultToleranceOptions.storage": {"claimName": "mine", "size": "1Gi"}},
    ),
    ("gcs-rocksdb", "rocksdb", {f"{WORKER}.env.+": _variable("RAY_gcs_storage_path", "/x")}),
    ("gcs-rocksdb", "rocksdb", {f"{HEAD_POD}.volumes.+": {"name": "gcs-storage", "emptyDir": {}}}),
    ("network-policy", "policed", {"spec.networkPolicy.head": {"egressRules": [{}]}}),
    ("network-policy", "policed", {"spec.networkPolicy.workerGroups.0.groupName": "others"}),
    ("network-policy", "policed", {f"{WORKERS}.groupName": "Workers"}),
    (
        "network-policy",
        "policed",
        {"spec.networkPolicy.workerGroups": [], f"{WORKERS}.groupName": "A_1"},
    ),
    (
        "tls",
        "encrypted",
        {"spec.autoscalerOptions.env.+": _variable("RAY_TLS_CA_CERT", "/x")},
    ),
    ("tls", "encrypted", {f"{WORKER}.env.+": _variable("RAY_USE_TLS")}),
    ("tls", "encrypted", {f"{HEAD_POD}.volumes.+": {"name": "ray-tls", "emptyDir": {}}}),
    # jobs
    ("job-name", "job", {"metadata.name": "m" * 48}),
    ("job-name", "job", {"metadata.name": "Train"}),
    ("one-cluster", "job", {"spec.rayClusterSpec": GONE}),
    ("one-cluster", "job", {"spec.clusterSelector": {"ray.io/cluster": "metadist"}}),
    ("one-cluster", "selecting", {"spec.clusterSelector": {"cluster": "metadist"}}),
    ("suspend", "suspended", {"spec.shutdownAfterJobFinishes": False}),
    ("suspend", "selecting", {"spec.suspend": True, "spec.shutdownAfterJobFinishes": True}),
    ("awake", "job", {"spec.rayClusterSpec.suspend": True}),
    ("time-to-live", "suspended", {"spec.ttlSecondsAfterFinished": -1}),
    ("time-to-live", "job", {"spec.ttlSecondsAfterFinished": 60}),
    ("deletion", "job", {"spec.shutdownAfterJobFinishes": True}),
    ("deletion", "job", {"spec.deletionStrategy.onSuccess": {"policy": "DeleteCluster"}}),
    ("deletion", "job", {_RULES: []}),
    ("deletion-conditions", "job", {f"{_RULES}.+": {"policy": "DeleteSelf", "condition": {}}}),
    (
        "deletion-conditions",
        "job",
        {
            f"{_RULES}.+": _deletion(
                "DeleteSelf", 9999, jobStatus="FAILED", jobDeploymentStatus="Failed"
            )
        },
    ),
    (
        "deletion-conditions",
        "job",
        {f"{_RULES}.+": _deletion("DeleteCluster", 300, jobStatus="SUCCEEDED")},
    ),
    ("deletion-order", "job", {f"{_RULES}.2.condition.ttlSeconds": 60}),
    ("deletion-order", "job", {f"{_RULES}.+": _deletion("DeleteSelf", 1, jobStatus="SUCCEEDED")}),
    ("deletion-targets", "job", {"spec.rayClusterSpec.enableInTreeAutoscaling": True}),
    (
        "deletion-targets",
        "selecting",
        {_RULES: [_deletion("DeleteCluster", 60, jobStatus="FAILED")]},
    ),
    ("sidecar", "sidecar", {"spec.submitterConfig": {"backoffLimit": 1}}),
    ("sidecar", "sidecar", {"spec.submitterPodTemplate": {"spec": {}}}),
    (
        "sidecar",
        "sidecar",
        {"spec.rayClusterSpec.headGroupSpec.template.spec.restartPolicy": "Always"},
    ),
    ("retries", "job", {"spec.backoffLimit": -1}),
    ("retries", "job", {"spec.submissionMode": "InteractiveMode"}),
    ("retries", "selecting", {"spec.backoffLimit": 1}),
    ("deadlines", "job", {"spec.activeDeadlineSeconds": 0}),
    ("deadlines", "job", {"spec.preRunningDeadlineSeconds": -5}),
    ("runtime-environment", "job", {"spec.runtimeEnvYAML": "env_vars: {a: b"}),
    ("runtime-environment", "job", {"spec.runtimeEnvYAML": "- pip"}),
    ("runtime-environment", "job", {"spec.runtimeEnvYAML": "env_vars: {RAY_AUTH_TOKEN: x}"}),
    ("submission-mode", "job", {"spec.submissionMode": "K8SJobMode"}),
    ("manager", "job", {"spec.managedBy": "me"}),
    # command lines
    ("command", "job", {"spec.entrypoint": "python train.py"}),
    ("command", "job", {"spec.entrypoint": "metadist trian x"}),
    ("command", "job", {"spec.entrypoint": "metadist train x --worker 2"}),
    ("resumable", "job", {"spec.entrypoint": "metadist train x --name x --workers 2"}),
    ("resumable", "job", {"spec.entrypoint": "metadist train x --resume auto --workers 2"}),
    ("resumable", "job", {"spec.entrypoint": "metadist tune maml-lr --name x"}),
    ("this-cluster", "job", {"spec.entrypoint": "metadist train x --workers 2"}),
    ("room", "job", {"spec.entrypoint": "metadist train x --workers 5"}),
    ("room", "job", {"spec.entrypoint": "metadist train x --workers 2 --device cuda"}),
    ("room", "job", {"spec.entrypoint": "metadist tune maml-lr --concurrent 5"}),
    ("room", "job", {"spec.entrypoint": "metadist tune maml-lr --concurrent 2 --cpus-per-trial 3"}),
    ("not-on-the-head", "job", {"spec.entrypoint": "metadist train x --workers 0"}),
    ("not-on-the-head", "job", {"spec.entrypoint": "metadist evaluate x"}),
    (
        "not-on-the-head",
        "job",
        {
            "spec.entrypoint": "metadist evaluate x",
            "spec.entrypointNumCpus": 1,
            f"{_JOBS_WORKER}.resources.limits": {"memory": "8Gi", "nvidia.com/gpu": "1"},
        },
    ),
    ("storage", "job", {"spec.entrypoint": "metadist train x --runs-dir /tmp/runs"}),
    ("storage", "job", {"spec.entrypoint": "metadist train x --runs-dir runs"}),
    (
        "storage",
        "job",
        {
            "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.volumes": [
                {"name": "recipes", "configMap": {"name": "metadist-recipes"}},
                {"name": "shared", "emptyDir": {}},
            ]
        },
    ),
    # pods
    ("restricted", "cluster", {f"{WORKER_POD}.securityContext.runAsNonRoot": GONE}),
    ("restricted", "cluster", {f"{WORKER_POD}.securityContext.runAsUser": 0}),
    ("restricted", "cluster", {f"{WORKER_POD}.securityContext.seccompProfile": GONE}),
    ("restricted", "cluster", {f"{WORKER_POD}.hostNetwork": True}),
    ("restricted", "cluster", {f"{WORKER}.securityContext": GONE}),
    ("restricted", "cluster", {f"{WORKER}.securityContext.capabilities.add": ["SYS_PTRACE"]}),
    ("restricted", "cluster", {f"{WORKER}.securityContext.privileged": True}),
    ("restricted", "cluster", {f"{WORKER}.ports.+": {"containerPort": 1, "hostPort": 1}}),
    (
        "restricted",
        "cluster",
        {f"{HEAD_POD}.volumes.+": {"name": "host", "hostPath": {"path": "/"}}},
    ),
    ("restricted", "job", {"spec.submitterPodTemplate.spec.containers.0.securityContext": GONE}),
    ("memory", "cluster", {f"{WORKER}.resources.requests.memory": "1Gi"}),
    ("memory", "cluster", {f"{WORKER}.resources": GONE}),
    ("memory", "Deployment/mlflow", {"spec.template.spec.initContainers.0.resources": GONE}),
    ("image", "cluster", {f"{WORKER}.image": "metadist"}),
    ("image", "cluster", {f"{WORKER}.image": "metadist:latest"}),
    ("image", "cluster", {f"{WORKER}.image": "registry.example.com:5000/metadist"}),
    ("image", "job", {"spec.submitterPodTemplate.spec.containers.0.image": "metadist:latest"}),
    ("service-account", "cluster", {f"{WORKER_POD}.automountServiceAccountToken": GONE}),
    ("service-account", "cluster", {f"{WORKER_POD}.automountServiceAccountToken": True}),
    ("credentials", "cluster", {f"{WORKER}.env.+": _variable("AWS_SECRET_ACCESS_KEY", "x")}),
    (
        "credentials",
        "Deployment/mlflow",
        {"spec.template.spec.containers.0.args.+": "--backend-store-uri=postgresql://a:b@c/d"},
    ),
    (
        "shared-memory",
        "cluster",
        {
            f"{WORKER}.resources": {
                name: {"memory": "8Gi", "nvidia.com/gpu": "1"} for name in ("requests", "limits")
            }
        },
    ),
    # between objects
    ("namespace", "Service/mlflow", {"metadata.namespace": "default"}),
    ("namespace", "Namespace/metadist", {"metadata.labels": {}}),
    ("ray-version", "cluster", {"spec.rayVersion": "2.59.0"}),
    ("secrets", "cluster", {"spec.authOptions.secretName": "another"}),
    (
        "secrets",
        "StatefulSet/mlflow-postgres",
        {
            "spec.template.spec.containers.0.env.2.valueFrom.secretKeyRef": {
                "name": "mlflow-postgres",
                "key": "pasword",
            }
        },
    ),
    ("secrets", "Service/mlflow", {"kind": "Secret"}),
    ("references", "cluster", {f"{WORKER_POD}.volumes.0.configMap.name": "metadist-recipe"}),
    ("references", "cluster", {f"{WORKER_POD}.serviceAccountName": "nobody"}),
    (
        "references",
        "Deployment/mlflow",
        {"spec.template.spec.volumes.0.persistentVolumeClaim.claimName": "artifacts"},
    ),
    ("parts", "job", {"spec.entrypoint": "metadist train strokes-5w1s-mamml --workers 2"}),
    ("parts", "job", {"spec.entrypoint": "metadist train /etc/metadist/recipes/large.toml"}),
    ("parts", "job", {"spec.entrypoint": "metadist tune maml-rl"}),
    ("mounts", "cluster", {f"{WORKER}.volumeMounts.0.name": "recipe"}),
    (
        "mounts",
        "cluster",
        {f"{WORKER}.volumeMounts.+": {"name": "recipes", "mountPath": "/etc/metadist/recipes"}},
    ),
    ("services", "Service/mlflow", {"spec.selector": {"app": "mlflow"}}),
    ("services", "Service/mlflow", {"spec.ports.0.targetPort": "https"}),
    ("disruption-budget", "PodDisruptionBudget/ray-head", {"spec.minAvailable": 1}),
    (
        "disruption-budget",
        "PodDisruptionBudget/ray-head",
        {"spec.minAvailable": GONE, "spec.maxUnavailable": 1},
    ),
    (
        "disruption-budget",
        "PodDisruptionBudget/ray-head",
        {"spec.selector.matchLabels": {"app.kubernetes.io/name": "metadist"}},
    ),
    (
        "disruption-budget",
        "PodDisruptionBudget/ray-head",
        {"spec.selector.matchLabels": {"app.kubernetes.io/part-of": "metadist"}},
    ),
    ("disruption-budget", "cluster", {f"{HEAD}.template.metadata.labels": {}}),
    ("network", "NetworkPolicy/ray-to-ray", {"spec.ingress": []}),
    ("network", "NetworkPolicy/ray-to-ray", {"spec.ingress.0.ports": [{"port": 6379}]}),
    ("network", "NetworkPolicy/dashboard", {"spec.ingress.0.ports.0.port": 8625}),
    ("network", "NetworkPolicy/dashboard", {"spec.ingress.0.from.1": {"podSelector": {}}}),
    ("network", "NetworkPolicy/mlflow", {"spec.ingress.0.ports.0.port": 80}),
    ("network", "NetworkPolicy/mlflow-postgres", {"spec.podSelector": {}, "spec.ingress": []}),
    ("network", "NetworkPolicy/deny-ingress", {"spec.policyTypes": ["Ingress", "Egress"]}),
    ("network", "job", {"spec.submitterPodTemplate.metadata.labels": {}}),
    ("strangers", "NetworkPolicy/dashboard", {"spec.ingress.0.from.+": {"namespaceSelector": {}}}),
    ("strangers", "NetworkPolicy/mlflow-postgres", {"spec.ingress": [{}]}),
    (
        "mlflow-hosts",
        "cluster",
        {f"{WORKER}.env.0.value": "http://mlflow.metadist.svc.example.org:5000"},
    ),
    ("mlflow-hosts", "cluster", {f"{HEAD_POD}.containers.0.env.0.value": "http://mlflow:80"}),
    (
        "mlflow-hosts",
        "Deployment/mlflow",
        {"spec.template.spec.containers.0.args": ["--allowed-hosts=localhost"]},
    ),
]

#: Rule, variant, edits; made with the operator's gates as they are by default, off.
UNGATED: list[tuple[str, str]] = [
    ("alpha-gates", "encrypted"),
    ("alpha-gates", "policed"),
    ("gcs-rocksdb", "rocksdb"),
]
