"""What KubeRay's operator (1.7.0) demands of a cluster beyond its schema, and what we add."""

from __future__ import annotations

import re
from collections.abc import Iterator

from manifests.clusters import Cluster
from manifests.documents import at
from manifests.rules import Rules

rule: Rules[Cluster] = Rules()

#: DNS-1035: what may be the name of a service.
LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")


@rule
def cluster_name(cluster: Cluster) -> Iterator[str]:
    """At most 53 characters, of which the operator makes names of services."""
    if cluster.in_job:
        return
    if len(cluster.name) > 53 or not LABEL_1035.fullmatch(cluster.name):
        yield f"{cluster.where}: a DNS-1035 label of at most 53 characters is demanded"


@rule
def ray_container(cluster: Cluster) -> Iterator[str]:
    """Every group has a container, and the first one is Ray's."""
    for group in cluster.groups:
        if not group.containers:
            yield f"{group.where}: has no container"
        elif not str(group.containers[0].get("name")).startswith("ray-"):
            yield f"{group.where}: the first container is Ray's, and ours is named ray-…"


@rule
def replicas(cluster: Cluster) -> Iterator[str]:
    """Three explicit numbers, 0 ≤ min ≤ replicas ≤ max: their defaults are 0, 0 and 2^31-1."""
    for group in cluster.workers:
        least, number, most = (
            group.spec.get(key) for key in ("minReplicas", "replicas", "maxReplicas")
        )
        if least is None or number is None or most is None:
            yield f"{group.where}: replicas, minReplicas and maxReplicas are all to be written"
        elif not 0 <= least <= number <= most:
            yield f"{group.where}: 0 <= {least} <= {number} <= {most} does not hold"
        elif not cluster.scales_itself and least != most:
            yield f"{group.where}: nothing scales it, so {least} and {most} must be the same"


@rule
def autoscaler(cluster: Cluster) -> Iterator[str]:
    """v2 wants pods that do not restart, is asked for in one place, and only where it is used."""
    by_variable = "RAY_enable_autoscaler_v2" in cluster.variables
    if by_variable and at(cluster.spec, "autoscalerOptions.version"):
        yield f"{cluster.where}: autoscalerOptions.version beside RAY_enable_autoscaler_v2"
    if by_variable and not cluster.scales_itself:
        yield f"{cluster.where}: RAY_enable_autoscaler_v2 without enableInTreeAutoscaling"
    for group in cluster.groups if cluster.autoscaler_v2 else ():
        if group.restarts not in (None, "Never"):
            yield f"{group.where}: restartPolicy {group.restarts}; autoscaler v2 demands Never"


@rule
def idle_timeout(cluster: Cluster) -> Iterator[str]:
    """Not negative; per group only with autoscaler v2."""
    timeouts = [(cluster.where, at(cluster.spec, "autoscalerOptions.idleTimeoutSeconds"))]
    timeouts += [(g.where, g.spec.get("idleTimeoutSeconds")) for g in cluster.workers]
    for where, seconds in timeouts:
        if seconds is not None and seconds < 0:
            yield f"{where}: idleTimeoutSeconds {seconds}"
    for group in cluster.workers:
        if "idleTimeoutSeconds" in group.spec and not cluster.autoscaler_v2:
            yield f"{group.where}: idleTimeoutSeconds without autoscaler v2"


@rule
def priority(cluster: Cluster) -> Iterator[str]:
    """A group's priority needs Ray 2.56 and autoscaler v2."""
    for group in cluster.workers:
        if group.spec.get("priority") and not (cluster.at_least("2.56") and cluster.autoscaler_v2):
            yield f"{group.where}: priority without Ray >= 2.56 and autoscaler v2"


@rule
def suspended_group(cluster: Cluster) -> Iterator[str]:
    """No group is suspended while the cluster scales itself."""
    for group in cluster.workers:
        if group.spec.get("suspend") and cluster.scales_itself:
            yield f"{group.where}: suspended in a cluster that scales itself"


@rule
def autoscaler_command(cluster: Cluster) -> Iterator[str]:
    """The variable that the operator makes for the autoscaler is not set by hand."""
    for variable in at(cluster.spec, "autoscalerOptions.env") or []:
        if variable["name"] == "KUBERAY_GEN_AUTOSCALER_START_CMD":
            yield f"{cluster.where}: {variable['name']} in autoscalerOptions.env"


@rule
def resources_once(cluster: Cluster) -> Iterator[str]:
    """Ray's resources stand in rayStartParams or in the group's resources, not in both."""
    for group in cluster.groups:
        doubled = [key for key in _RESOURCES if key in group.params]
        if doubled and group.spec.get("resources"):
            yield f"{group.where}: {', '.join(doubled)} in rayStartParams beside resources"


@rule
def object_store(cluster: Cluster) -> Iterator[str]:
    """It has room in the /dev/shm that is mounted; without, Ray puts it on the disk."""
    for group in cluster.groups:
        room = group.shared_memory
        if room is not None and (store := group.object_store) > room:
            yield f"{group.where}: an object store of {store:.0f} bytes, /dev/shm of {room:.0f}"


@rule
def ray_labels(cluster: Cluster) -> Iterator[str]:
    """Ray's labels stand in the group's labels, in the syntax of Kubernetes."""
    for group in cluster.groups:
        if "labels" in group.params:
            yield f"{group.where}: labels in rayStartParams; they belong into labels"
        for key, value in (group.spec.get("labels") or {}).items():
            if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
                yield f"{group.where}: {key}={value} is no label"


@rule
def token(cluster: Cluster) -> Iterator[str]:
    """Tokens are on, by an explicit mode, and Ray knows them."""
    if not cluster.token:
        yield f"{cluster.where}: authOptions.mode token is demanded; without a mode there is none"
    elif not cluster.at_least("2.52"):
        yield f"{cluster.where}: mode token needs rayVersion >= 2.52"


@rule
def kubernetes_token(cluster: Cluster) -> Iterator[str]:
    """Tokens of Kubernetes need mode token, Ray 2.55, no Secret and no RayJob."""
    options = cluster.spec.get("authOptions") or {}
    if not options.get("enableK8sTokenAuth"):
        return
    if not (cluster.token and cluster.at_least("2.55")):
        yield f"{cluster.where}: enableK8sTokenAuth without mode token and Ray >= 2.55"
    if options.get("secretName") or cluster.in_job:
        yield f"{cluster.where}: enableK8sTokenAuth with a secretName or in a RayJob"


@rule
def token_by_hand(cluster: Cluster) -> Iterator[str]:
    """The operator sets RAY_AUTH_*; what is set by hand it leaves, and pods then differ."""
    for name in sorted(n for n in cluster.variables if n.startswith("RAY_AUTH_")):
        yield f"{cluster.where}: {name} is set by hand beside authOptions"


@rule
def upgrade(cluster: Cluster) -> Iterator[str]:
    """Recreate or None, and not inside a RayJob."""
    if (strategy := cluster.spec.get("upgradeStrategy")) is None:
        return
    if strategy.get("type") not in ("Recreate", "None"):
        yield f"{cluster.where}: upgradeStrategy.type {strategy.get('type')}"
    if cluster.in_job:
        yield f"{cluster.where}: upgradeStrategy inside a RayJob"


@rule
def head_does_no_work(cluster: Cluster) -> Iterator[str]:
    """Nothing is trained on the head, and its dashboard is on no public address."""
    if cluster.head.params.get("num-cpus") != "0":
        yield f'{cluster.head.where}: rayStartParams num-cpus "0" is demanded'
    if cluster.head.spec.get("serviceType") != "ClusterIP" or cluster.head.spec.get(
        "enableIngress"
    ):
        yield f"{cluster.head.where}: serviceType ClusterIP and no ingress are demanded"
