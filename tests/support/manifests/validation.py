"""Everything that is demanded of objects, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from jsonschema import Draft7Validator
from manifests import (
    cluster_rules,
    entrypoint_rules,
    job_rules,
    option_rules,
    pod_rules,
    whole_rules,
)
from manifests.clusters import clusters
from manifests.core_schema import core_errors, pod_errors
from manifests.crd_schema import ray_errors
from manifests.documents import Manifest
from manifests.pods import pods
from manifests.rules import Problem
from manifests.whole import Whole

NAMES = (
    cluster_rules.rule.names
    | option_rules.rule.names
    | job_rules.rule.names
    | entrypoint_rules.rule.names
    | pod_rules.rule.names
    | whole_rules.rule.names
)


def schema_errors(objects: Iterable[Manifest], ray: dict[str, Draft7Validator]) -> Iterator[str]:
    """What schemas refuse."""
    for manifest in objects:
        if str(manifest.body.get("apiVersion")).startswith("ray.io/"):
            yield from ray_errors(manifest, ray)
            yield from pod_errors(manifest)
        else:
            yield from core_errors(manifest)


def object_problems(
    objects: Iterable[Manifest], gates: frozenset[str] = frozenset()
) -> Iterator[Problem]:
    """What rules about single objects find; an entrypoint needs a rendered one."""
    for manifest in objects:
        for cluster in clusters(manifest, gates):
            yield from cluster_rules.rule.problems(cluster)
            yield from option_rules.rule.problems(cluster)
        if manifest.kind == "RayJob":
            yield from job_rules.rule.problems(manifest)
        for pod in pods(manifest):
            yield from pod_rules.rule.problems(pod)


def problems(whole: Whole, gates: frozenset[str] = frozenset()) -> list[Problem]:
    """What any rule finds in a rendering."""
    jobs = [m for m in whole.objects if m.kind == "RayJob"]
    return [
        *object_problems(whole.objects, gates),
        *chain.from_iterable(entrypoint_rules.rule.problems(job) for job in jobs),
        *whole_rules.rule.problems(whole),
    ]
