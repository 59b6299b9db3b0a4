"""Who may reach whom under a set of NetworkPolicies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from manifests.documents import Manifest, at


@dataclass(frozen=True)
class End:
    """A pod as policies see it: its labels, and those of its namespace."""

    labels: dict[str, str]
    namespace: dict[str, str] = field(
        default_factory=lambda: {"kubernetes.io/metadata.name": "metadist"}
    )


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a label selector matches; one that is empty matches everything."""
    selector = selector or {}
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or []:
        value, operator = labels.get(term["key"]), term["operator"]
        holds = {
            "In": value in term.get("values", []),
            "NotIn": value not in term.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[operator]:
            return False
    return True


def _peer(peer: dict[str, Any], end: End, here: dict[str, str]) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], end.namespace):
            return False
    elif end.namespace != here:
        return False
    return selects(peer.get("podSelector"), end.labels)


def _admitted(policies: Iterable[Manifest], to: End, other: End, port: int, way: str) -> bool:
    """Whether the policies about ``to`` admit ``other`` (``way``: ``Ingress`` or ``Egress``)."""
    about = [
        p
        for p in policies
        if way in at(p.body, "spec.policyTypes", [])
        and selects(at(p.body, "spec.podSelector"), to.labels)
    ]
    peers = "from" if way == "Ingress" else "to"
    for policy in about:
        for entry in at(policy.body, f"spec.{way.lower()}") or []:
            ports = [p.get("port") for p in entry.get("ports") or []]
            if ports and port not in ports:
                continue
            if not entry.get(peers) or any(_peer(p, other, to.namespace) for p in entry[peers]):
                return True
    return not about


def may_reach(policies: list[Manifest], source: End, target: End, port: int) -> bool:
    """Whether a pod may open a connection to another, both ends' policies considered.

    Policies are those of one namespace, that of the ends that are in it.
    """
    here = End({}).namespace
    outward = source.namespace != here or _admitted(policies, source, target, port, "Egress")
    inward = target.namespace != here or _admitted(policies, target, source, port, "Ingress")
    return outward and inward
