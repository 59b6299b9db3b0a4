"""What a RayJob's command line needs of its cluster, so that it can start, and start again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from manifests.clusters import Cluster, clusters
from manifests.commands import CommandError, command_of
from manifests.documents import Manifest, at
from manifests.pods import Pod, cluster_pods
from manifests.rules import Rules

rule: Rules[Manifest] = Rules()


def _parts(job: Manifest) -> Iterator[tuple[str, dict[str, Any], Cluster]]:
    """Command, parameters and cluster, where both can be read."""
    for cluster in clusters(job):
        try:
            yield *command_of(job), cluster
        except CommandError:
            return


def _there(cluster: Cluster, resource: str) -> int:
    """How much of a resource all workers have together, when there are as few as may be."""
    return sum(int(g.spec["minReplicas"]) * g.size(resource) for g in cluster.workers)


def _wanted(verb: str, options: dict[str, Any], gpus: bool) -> int:
    """CPUs, or GPUs, that a command takes to begin."""
    if verb == "train":
        # A range: the run can begin with the smallest number.
        return int(str(options["workers"]).split(":")[0])
    if verb == "tune":
        each = (options["gpus_per_trial"] or 1) if gpus else options["cpus_per_trial"]
        trials = (options["concurrent"] or 1) * max(options["workers_per_trial"], 1)
        return math.ceil(float(trials * each))
    return 1


@rule
def command(job: Manifest) -> Iterator[str]:
    """It is a command that metadist has, with options that it has."""
    try:
        command_of(job)
    except CommandError as error:
        yield f"{job.where}: {error}"


@rule
def resumable(job: Manifest) -> Iterator[str]:
    """A name and `--resume auto`: what is applied or retried again goes on with the same run."""
    for verb, options, _ in _parts(job):
        if verb == "evaluate":
            continue
        if not options["name"]:
            yield f"{job.where}: metadist {verb} without --name would be another run each time"
        if options["resume"] != "auto":
            yield f"{job.where}: metadist {verb} without --resume auto fails when it is run again"


@rule
def this_cluster(job: Manifest) -> Iterator[str]:
    """`--address auto`: without it, what goes wrong is a private Ray on the head."""
    for verb, options, _ in _parts(job):
        if verb != "evaluate" and options["address"] != "auto":
            yield f"{job.where}: metadist {verb} with --address {options['address']}"


@rule
def room(job: Manifest) -> Iterator[str]:
    """The cluster has room for all workers, or trials, or for the evaluation, at its smallest."""
    for verb, options, cluster in _parts(job):
        gpus = _there(cluster, "nvidia.com/gpu")
        on_gpus = options["device"] == "cuda" or (options["device"] == "auto" and gpus > 0)
        have = gpus if on_gpus else _there(cluster, "cpu")
        want = _wanted(verb, options, on_gpus)
        if want > have:
            yield f"{job.where}: metadist {verb} needs room for {want}, the cluster has {have}"


@rule
def not_on_the_head(job: Manifest) -> Iterator[str]:
    """What computes does so on workers; the head has neither the memory nor the GPU."""
    for verb, options, cluster in _parts(job):
        if verb == "train" and _wanted(verb, options, False) < 1:
            yield f"{job.where}: --workers {options['workers']} trains on the head"
        if verb == "evaluate":
            if not at(job.body, "spec.entrypointNumCpus"):
                yield f"{job.where}: metadist {verb} without entrypointNumCpus runs on the head"
            gpus = _there(cluster, "nvidia.com/gpu")
            if gpus and not at(job.body, "spec.entrypointNumGpus"):
                yield f"{job.where}: metadist {verb} without entrypointNumGpus sees no GPU"


def _durable(pod: Pod, folder: str) -> bool:
    """Whether a folder of the Ray container outlives the pod and is the same in every pod."""
    mounts = pod.containers[-1].get("volumeMounts") or []
    below = [m for m in mounts if f"{folder}/".startswith(m["mountPath"].rstrip("/") + "/")]
    if not below:
        return False
    name = max(below, key=lambda mount: len(mount["mountPath"]))["name"]
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes") or []}
    return "persistentVolumeClaim" in volumes.get(name, {})


@rule
def storage(job: Manifest) -> Iterator[str]:
    """Runs and data lie on a claim that every pod mounts, or in an object store."""
    for _, options, cluster in _parts(job):
        for key in ("runs_dir", "data_dir"):
            folder = str(options[key])
            if folder.startswith("s3://"):
                continue
            option = "--" + key.replace("_", "-")
            lost = [
                p.where
                for p in cluster_pods(cluster.spec, cluster.where)
                if not _durable(p, folder)
            ]
            if not folder.startswith("/") or lost:
                yield f"{job.where}: {option} {folder} is on no claim in {', '.join(lost)}"
