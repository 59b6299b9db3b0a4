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


def _capacity(cluster: Cluster, device: str) -> int:
    """How many of metadist's workers the cluster has room for at its smallest."""
    gpus: int = sum(g.spec["minReplicas"] * g.size("nvidia.com/gpu") for g in cluster.workers)
    cpus: int = sum(g.spec["minReplicas"] * g.size("cpu") for g in cluster.workers)
    return gpus if device == "cuda" or (device == "auto" and gpus) else cpus


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
        have = _capacity(cluster, options["device"])
        if verb == "train":
            # A range: the run can begin with the smallest number.
            want = int(str(options["workers"]).split(":")[0])
            if want < 1:
                yield f"{job.where}: --workers {want} trains on the head, where nothing should"
        elif verb == "tune":
            each = options["cpus_per_trial"] if have == _capacity(cluster, "cpu") else 1
            want = math.ceil((options["concurrent"] or 1) * each)
        else:
            want = 1
            asked = at(job.body, "spec.entrypointNumCpus") or at(job.body, "spec.entrypointNumGpus")
            if not asked:
                yield f"{job.where}: metadist {verb} without entrypointNumCpus runs on the head"
        if want > have:
            yield f"{job.where}: metadist {verb} needs room for {want}, the cluster has {have}"


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
