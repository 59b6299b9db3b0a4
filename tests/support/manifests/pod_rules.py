"""What we demand of every pod, whatever makes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from manifests.documents import at
from manifests.pods import Pod
from manifests.rules import Rules

rule: Rules[Pod] = Rules()

_IMAGE = re.compile(r"(?P<name>[^@]+?)(:(?P<tag>[\w][\w.-]*))?(@sha256:(?P<digest>[0-9a-f]{64}))?")
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
_VOLUMES |= {"projected", "secret"}
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "ACCESS_KEY")


@rule
def restricted(pod: Pod) -> Iterator[str]:
    """Pod security `restricted`: not root, no privilege, default seccomp, harmless volumes only."""

    def effective(container: dict[str, Any], key: str) -> Any:
        of_pod = at(pod.spec, f"securityContext.{key}")
        return at(container, f"securityContext.{key}", of_pod)

    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(key):
            yield f"{pod.where}: {key}"
    for container in pod.containers:
        where = f"{pod.where} {container.get('name')}"
        if effective(container, "runAsNonRoot") is not True:
            yield f"{where}: runAsNonRoot is demanded"
        if effective(container, "runAsUser") in (None, 0):
            yield f"{where}: a runAsUser other than 0 is demanded"
        if effective(container, "seccompProfile.type") != "RuntimeDefault":
            yield f"{where}: seccompProfile RuntimeDefault is demanded"
        if at(container, "securityContext.allowPrivilegeEscalation") is not False:
            yield f"{where}: allowPrivilegeEscalation false is demanded"
        if at(container, "securityContext.capabilities.drop") != ["ALL"]:
            yield f"{where}: capabilities drop [ALL] is demanded"
        if at(container, "securityContext.capabilities.add"):
            yield f"{where}: capabilities add"
        if at(container, "securityContext.privileged"):
            yield f"{where}: privileged"
        if any("hostPort" in port for port in container.get("ports") or []):
            yield f"{where}: hostPort"
    for volume in pod.spec.get("volumes") or []:
        if kinds := set(volume) - {"name"} - _VOLUMES:
            yield f"{pod.where}: volume {volume['name']} is a {', '.join(sorted(kinds))}"


@rule
def memory(pod: Pod) -> Iterator[str]:
    """Memory asked for is the limit, and so are GPUs: nobody is killed for a neighbour's hunger."""
    for container in pod.containers:
        asked = at(container, "resources.requests") or {}
        limits = at(container, "resources.limits") or {}
        for key in ["memory", *sorted(k for k in {*asked, *limits} if k.endswith("/gpu"))]:
            if asked.get(key) is None or asked.get(key) != limits.get(key):
                where = f"{pod.where} {container.get('name')}"
                yield f"{where}: {key}: request {asked.get(key)}, limit {limits.get(key)}"


@rule
def image(pod: Pod) -> Iterator[str]:
    """A tag or a digest that says which one, never `latest`."""
    for container in pod.containers:
        name = str(container.get("image"))
        found = _IMAGE.fullmatch(name)
        if not found or not (found["tag"] or found["digest"]) or found["tag"] == "latest":
            yield f"{pod.where} {container.get('name')}: image {name}"


@rule
def service_account(pod: Pod) -> Iterator[str]:
    """No token of the API server is mounted, unless into a head that asks it for nodes."""
    mounted = pod.spec.get("automountServiceAccountToken")
    if mounted is not False and not (pod.role == "head" and mounted is True):
        yield f"{pod.where}: automountServiceAccountToken false is demanded"


@rule
def credentials(pod: Pod) -> Iterator[str]:
    """Credentials are references to Secrets, in no value, URI or argument."""
    for container in pod.containers:
        where = f"{pod.where} {container.get('name')}"
        for variable in container.get("env") or []:
            if "value" in variable and any(w in variable["name"].upper() for w in _SECRET):
                yield f"{where}: {variable['name']} has its value in the manifest"
        values = [v.get("value") or "" for v in container.get("env") or []]
        for text in [*values, *(container.get("command") or []), *(container.get("args") or [])]:
            if re.search(r"://[^/@\s]*:[^/@\s]+@", text):
                yield f"{where}: a URI with a password"


@rule
def shared_memory(pod: Pod) -> Iterator[str]:
    """A GPU worker's /dev/shm is memory with a bound: what is mounted there otherwise is a disk."""
    ours = pod.spec.get("volumes") or []
    for container in pod.containers:
        gpus = any(key.endswith("/gpu") for key in at(container, "resources.limits") or {})
        mounts = container.get("volumeMounts") or []
        name = next((m["name"] for m in mounts if m["mountPath"] == "/dev/shm"), None)
        folder = next((v.get("emptyDir") for v in ours if v["name"] == name), None) or {}
        if gpus and not (folder.get("medium") == "Memory" and folder.get("sizeLimit")):
            yield f"{pod.where} {container.get('name')}: /dev/shm is no bounded emptyDir in memory"
