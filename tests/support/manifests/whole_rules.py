"""What has to fit together between objects: names, labels, ports, hosts and versions."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import chain
from urllib.parse import urlsplit

from manifests.clusters import clusters
from manifests.commands import CommandError, command_of
from manifests.documents import Manifest, at
from manifests.network import End, may_reach, selects
from manifests.pods import pods
from manifests.rules import Rules
from manifests.whole import Whole, secrets_used, values

from metadist.recipe.files import builtin_names
from metadist.search.spaces import space_names

rule: Rules[Whole] = Rules()

NAMESPACE = "metadist"
_UNSCOPED = ("Namespace", "ClusterRole", "ClusterRoleBinding", "PersistentVolume")
OPERATOR = End(
    {"app.kubernetes.io/name": "kuberay-operator"},
    {"kubernetes.io/metadata.name": "kuberay-system"},
)
_STRANGER = End({"app": "stranger"}, {"kubernetes.io/metadata.name": "other"})
_DNS = End({"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"})
#: More heads than anybody has at a time.
_MANY = 100
#: Where the generated recipes are in Ray's pods.
RECIPES = "/etc/metadist/recipes/"
_HOSTS = "--allowed-hosts="


@rule
def namespace(whole: Whole) -> Iterator[str]:
    """Everything is in the one namespace, which refuses pods that are not restricted."""
    for manifest in whole.objects:
        place = at(manifest.body, "metadata.namespace")
        if manifest.kind not in _UNSCOPED and place != NAMESPACE:
            yield f"{manifest.where}: namespace {place}, not {NAMESPACE}"
        if manifest.kind == "Namespace":
            labels = at(manifest.body, "metadata.labels") or {}
            if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
                yield f"{manifest.where}: does not enforce restricted pod security"


@rule
def ray_version(whole: Whole) -> Iterator[str]:
    """The cluster says which Ray it is, and it is that of the image."""
    for cluster in chain.from_iterable(clusters(m) for m in whole.objects):
        if cluster.spec.get("rayVersion") != whole.ray:
            yield f"{cluster.where}: rayVersion {cluster.spec.get('rayVersion')}, not {whole.ray}"


@rule
def secrets(whole: Whole) -> Iterator[str]:
    """No Secret is among the objects; each that they refer to is in the README's table."""
    told = whole.secrets
    for manifest in whole.objects:
        if manifest.kind == "Secret":
            yield f"{manifest.where}: a Secret in the manifests"
        for name, key in secrets_used(manifest):
            if not any(name == n and key in (None, k) for n, k in told):
                yield f"{manifest.where}: Secret {name}, key {key}, is not in the README"


@rule
def references(whole: Whole) -> Iterator[str]:
    """ConfigMaps, claims and service accounts that pods refer to are there."""
    there = {(m.kind, m.name) for m in whole.all}
    for pod in whole.pods():
        template = Manifest({"kind": "", "spec": pod.template})
        wanted = [("ConfigMap", v["name"]) for v in values(template, "configMap")]
        wanted += [("ConfigMap", v["name"]) for v in values(template, "configMapRef")]
        wanted += [("ConfigMap", v["name"]) for v in values(template, "configMapKeyRef")]
        wanted += [("PersistentVolumeClaim", v) for v in values(template, "claimName")]
        wanted += [("ServiceAccount", v) for v in values(template, "serviceAccountName")]
        for kind, name in wanted:
            if (kind, name) not in there:
                yield f"{pod.where}: there is no {kind} {name}"


@rule
def parts(whole: Whole) -> Iterator[str]:
    """A recipe is one that comes with metadist or is among the generated ones; so is a space."""
    recipes = {name for m in whole.of("ConfigMap") for name in m.body.get("data") or {}}
    for job in (m for m in whole.objects if m.kind == "RayJob"):
        try:
            verb, options = command_of(job)
        except CommandError:
            continue
        if verb == "train":
            recipe = str(options["recipe"])
            own = recipe.startswith(RECIPES) and recipe.removeprefix(RECIPES) in recipes
            if not own and recipe not in builtin_names():
                yield f"{job.where}: there is no recipe {recipe}"
        elif verb == "tune" and options["space"] not in space_names():
            yield f"{job.where}: there is no search space {options['space']}"


@rule
def mounts(whole: Whole) -> Iterator[str]:
    """What containers mount is among the pod's volumes, each place once."""
    claims = {
        pod.where: {t["metadata"]["name"] for t in at(m.body, "spec.volumeClaimTemplates") or []}
        for m in whole.objects
        for pod in pods(m)
    }
    for pod in whole.pods():
        volumes = {v["name"] for v in pod.spec.get("volumes") or []} | claims[pod.where]
        for container in pod.containers:
            entries = container.get("volumeMounts") or []
            for entry in entries:
                if entry["name"] not in volumes:
                    yield f"{pod.where}: {container['name']} mounts {entry['name']}, no volume"
            paths = [entry["mountPath"] for entry in entries]
            for path in sorted({p for p in paths if paths.count(p) > 1}):
                yield f"{pod.where}: {container['name']} mounts two volumes at {path}"


@rule
def services(whole: Whole) -> Iterator[str]:
    """A Service selects pods that there are, on ports that they have."""
    there = [pod for m in whole.all for pod in pods(m)]
    for service in (m for m in whole.objects if m.kind == "Service"):
        selector = at(service.body, "spec.selector") or {}
        chosen = [p for p in there if selects({"matchLabels": selector}, p.labels)]
        if not selector or not chosen:
            yield f"{service.where}: selects no pod"
        ports = [port for p in chosen for c in p.containers for port in c.get("ports") or []]
        known = {v for port in ports for v in (port.get("name"), port["containerPort"])}
        for port in at(service.body, "spec.ports") or []:
            if port.get("targetPort", port["port"]) not in known:
                yield f"{service.where}: no container has the port {port.get('targetPort')}"


@rule
def disruption_budget(whole: Whole) -> Iterator[str]:
    """A budget covers every head and nothing else, and never has room for an eviction."""
    budgets = whole.of("PodDisruptionBudget")
    for pod in whole.pods():
        covering = [b for b in budgets if selects(at(b.body, "spec.selector"), pod.labels)]
        if pod.role == "head" and not covering:
            yield f"{pod.where}: no PodDisruptionBudget selects this head"
        if pod.role == "worker" and covering:
            yield f"{pod.where}: {covering[0].where} would keep a worker's node from being drained"
    for budget in budgets:
        least = at(budget.body, "spec.minAvailable")
        none = at(budget.body, "spec.maxUnavailable") == 0
        if not none and not (isinstance(least, int) and least >= _MANY):
            yield f"{budget.where}: has room for an eviction when several heads run"


def _ends(whole: Whole, *, role: str = "", component: str = "") -> list[End]:
    """The pods of a role or a component, applied or beside."""
    there = [pod for m in whole.all for pod in pods(m)]
    if role:
        return [End(pod.labels) for pod in there if pod.role == role]
    labels = [End(pod.labels) for pod in there]
    return [end for end in labels if end.labels.get("app.kubernetes.io/component") == component]


def _flows(whole: Whole) -> Iterator[tuple[str, End, End, int]]:
    """Connections without which something does not work."""
    heads = _ends(whole, role="head")
    ray = heads + _ends(whole, role="worker")
    mlflow = _ends(whole, component="mlflow")
    for a in ray:
        yield from (("Ray's pods to each other", a, b, 20_000) for b in ray)
        yield from (("Ray's pods to MLflow", a, b, 5000) for b in mlflow)
        yield from (("Ray's pods to Redis", a, b, 6379) for b in _ends(whole, component="redis"))
        yield "Ray's pods to DNS", a, _DNS, 53
    for head in heads:
        yield "the operator to the dashboard", OPERATOR, head, 8265
        for submitter in _ends(whole, role="submitter"):
            yield "the submitter to the dashboard", submitter, head, 8265
    for database in _ends(whole, component="mlflow-postgres"):
        yield from (("MLflow to its database", server, database, 5432) for server in mlflow)


@rule
def network(whole: Whole) -> Iterator[str]:
    """Policies admit the connections that are needed."""
    policies = whole.of("NetworkPolicy")
    broken = [what for what, a, b, port in _flows(whole) if not may_reach(policies, a, b, port)]
    yield from (f"NetworkPolicies keep {what} from working" for what in sorted(set(broken)))


@rule
def strangers(whole: Whole) -> Iterator[str]:
    """No pod may be reached from another namespace, nor one's database by anybody's pod."""
    policies = whole.of("NetworkPolicy")
    for pod in whole.pods():
        if may_reach(policies, _STRANGER, End(pod.labels), 8265):
            yield f"{pod.where}: may be reached from other namespaces"
        if may_reach(policies, End({"app": "anything"}), End(pod.labels), 5432):
            yield f"{pod.where}: may be reached by any pod of the namespace"


def admits(allowed: list[str], host: str) -> bool:
    """Whether MLflow's server takes a request with this Host header, written a second time."""
    return any(fnmatch(host, entry) if "*" in entry else host == entry for entry in allowed)


@rule
def mlflow_hosts(whole: Whole) -> Iterator[str]:
    """The server admits the host and port that clients are given."""
    servers = [c for m in whole.of("Deployment") for p in pods(m) for c in p.containers]
    words = [word for c in servers for word in c.get("args") or []]
    allowed = [h for w in words if w.startswith(_HOSTS) for h in w.removeprefix(_HOSTS).split(",")]
    for pod in whole.pods():
        for container in pod.containers:
            for variable in container.get("env") or []:
                if variable["name"] != "MLFLOW_TRACKING_URI":
                    continue
                host = urlsplit(variable["value"]).netloc
                if words and not admits(allowed, host):
                    yield f"{pod.where}: MLflow refuses the host {host}; --allowed-hosts has not it"
