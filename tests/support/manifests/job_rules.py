"""What KubeRay's operator (1.7.0) demands of a RayJob beyond its schema, and what we add."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from manifests.cluster_rules import LABEL_1035
from manifests.documents import Manifest, at, parse
from manifests.rules import Rules

rule: Rules[Manifest] = Rules()

_MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
_MANAGERS = ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")
#: In the order in which they may happen.
_POLICIES = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")


def _spec(job: Manifest) -> dict[str, Any]:
    return job.body.get("spec") or {}


@rule
def job_name(job: Manifest) -> Iterator[str]:
    """At most 47 characters: the operator adds to it for the cluster's name."""
    if len(job.name) > 47 or not LABEL_1035.fullmatch(job.name):
        yield f"{job.where}: a DNS-1035 label of at most 47 characters is demanded"


@rule
def one_cluster(job: Manifest) -> Iterator[str]:
    """A cluster of its own or one that is selected by its name, never both."""
    selector = _spec(job).get("clusterSelector")
    if bool(selector) == bool(_spec(job).get("rayClusterSpec")):
        yield f"{job.where}: exactly one of rayClusterSpec and clusterSelector is demanded"
    if selector and not selector.get("ray.io/cluster"):
        yield f"{job.where}: clusterSelector has no ray.io/cluster"


@rule
def suspend(job: Manifest) -> Iterator[str]:
    """Only a job whose own cluster goes when it ends can be suspended."""
    spec = _spec(job)
    if spec.get("suspend"):
        if not spec.get("shutdownAfterJobFinishes"):
            yield f"{job.where}: suspend without shutdownAfterJobFinishes"
        if spec.get("clusterSelector"):
            yield f"{job.where}: suspend with clusterSelector"


@rule
def awake(job: Manifest) -> Iterator[str]:
    """Its cluster is not suspended: a job suspends itself, or is never run."""
    if at(job.body, "spec.rayClusterSpec.suspend"):
        yield f"{job.where}: rayClusterSpec.suspend"


@rule
def time_to_live(job: Manifest) -> Iterator[str]:
    """Not negative, and only where it has an effect."""
    seconds = _spec(job).get("ttlSecondsAfterFinished", 0)
    if seconds < 0:
        yield f"{job.where}: ttlSecondsAfterFinished {seconds}"
    elif seconds > 0 and not _spec(job).get("shutdownAfterJobFinishes"):
        yield f"{job.where}: ttlSecondsAfterFinished without shutdownAfterJobFinishes"


@rule
def deletion(job: Manifest) -> Iterator[str]:
    """Deletion rules stand alone."""
    strategy = _spec(job).get("deletionStrategy")
    if strategy is None:
        return
    if "onSuccess" in strategy or "onFailure" in strategy:
        yield f"{job.where}: onSuccess and onFailure are deprecated; deletionRules replace them"
    rules = strategy.get("deletionRules")
    if not rules:
        yield f"{job.where}: deletionStrategy without deletionRules"
    elif _spec(job).get("shutdownAfterJobFinishes"):
        yield f"{job.where}: deletionRules beside shutdownAfterJobFinishes"


def _rules(job: Manifest) -> list[tuple[str, str, int]]:
    """Condition, policy and seconds of each deletion rule."""
    found = []
    for entry in at(job.body, "spec.deletionStrategy.deletionRules") or []:
        condition = entry.get("condition") or {}
        state = str(condition.get("jobStatus") or condition.get("jobDeploymentStatus"))
        found.append((state, str(entry.get("policy")), int(condition.get("ttlSeconds", 0))))
    return found


@rule
def deletion_conditions(job: Manifest) -> Iterator[str]:
    """Each has one condition, and none is there twice."""
    for entry in at(job.body, "spec.deletionStrategy.deletionRules") or []:
        condition = entry.get("condition") or {}
        if len({"jobStatus", "jobDeploymentStatus"} & set(condition)) != 1:
            yield f"{job.where}: a deletion rule has one of jobStatus and jobDeploymentStatus"
    pairs = [(state, policy) for state, policy, _ in _rules(job)]
    for state, policy in sorted({pair for pair in pairs if pairs.count(pair) > 1}):
        yield f"{job.where}: two deletion rules {policy} for {state}"


@rule
def deletion_order(job: Manifest) -> Iterator[str]:
    """Workers go before the cluster, and the cluster before the job."""
    for state in sorted({state for state, _, _ in _rules(job)}):
        times = {policy: seconds for s, policy, seconds in _rules(job) if s == state}
        ordered = [times[policy] for policy in _POLICIES if policy in times]
        if ordered != sorted(ordered):
            yield f"{job.where}: {state}: the order {' <= '.join(_POLICIES)} does not hold"


@rule
def deletion_targets(job: Manifest) -> Iterator[str]:
    """A selected cluster is not the job's to delete; workers that scale themselves come back."""
    policies = {policy for _, policy, _ in _rules(job)}
    if at(job.body, "spec.rayClusterSpec.enableInTreeAutoscaling") and "DeleteWorkers" in policies:
        yield f"{job.where}: DeleteWorkers in a cluster that scales itself"
    if _spec(job).get("clusterSelector") and policies & {"DeleteWorkers", "DeleteCluster"}:
        yield f"{job.where}: a deletion rule for a cluster that is only selected"


@rule
def sidecar(job: Manifest) -> Iterator[str]:
    """A submitter beside the head has no pod of its own."""
    spec = _spec(job)
    if spec.get("submissionMode") != "SidecarMode":
        return
    for key in ("submitterPodTemplate", "submitterConfig", "clusterSelector"):
        if key in spec:
            yield f"{job.where}: {key} in SidecarMode"
    policy = at(spec, "rayClusterSpec.headGroupSpec.template.spec.restartPolicy")
    if policy not in (None, "Never"):
        yield f"{job.where}: the head's restartPolicy {policy} in SidecarMode"


@rule
def retries(job: Manifest) -> Iterator[str]:
    """A retry is a fresh cluster, which not every job can have."""
    spec = _spec(job)
    limit = spec.get("backoffLimit", 0)
    if limit < 0:
        yield f"{job.where}: backoffLimit {limit}"
    if limit > 0 and (
        spec.get("clusterSelector") or spec.get("submissionMode") == "InteractiveMode"
    ):
        yield f"{job.where}: backoffLimit with clusterSelector or InteractiveMode"


@rule
def deadlines(job: Manifest) -> Iterator[str]:
    """Deadlines are positive."""
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if _spec(job).get(key, 1) <= 0:
            yield f"{job.where}: {key} {_spec(job)[key]}"


@rule
def runtime_environment(job: Manifest) -> Iterator[str]:
    """It is a map in YAML, and holds no credential: whoever sees the job sees it."""
    try:
        documents = parse(_spec(job).get("runtimeEnvYAML") or "{}")
    except yaml.YAMLError as error:
        yield f"{job.where}: runtimeEnvYAML: {error}"
        return
    if len(documents) != 1 or not isinstance(documents[0], dict):
        yield f"{job.where}: runtimeEnvYAML is no map"
        return
    for name in documents[0].get("env_vars") or {}:
        if any(word in name.upper() for word in ("TOKEN", "SECRET", "PASSWORD", "ACCESS_KEY")):
            yield f"{job.where}: runtimeEnvYAML carries {name}"


@rule
def submission_mode(job: Manifest) -> Iterator[str]:
    """One of the four: the schema takes any text."""
    if (mode := _spec(job).get("submissionMode", _MODES[0])) not in _MODES:
        yield f"{job.where}: submissionMode {mode}; there are {', '.join(_MODES)}"


@rule
def manager(job: Manifest) -> Iterator[str]:
    """KubeRay's operator or Kueue's."""
    if (name := _spec(job).get("managedBy", _MANAGERS[0])) not in _MANAGERS:
        yield f"{job.where}: managedBy {name}; there are {', '.join(_MANAGERS)}"
