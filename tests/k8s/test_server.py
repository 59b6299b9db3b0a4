"""A real API server, where there is one, takes the overlays as a dry run."""

from __future__ import annotations

import os
import subprocess
from copy import deepcopy

import pytest
import yaml
from manifests.documents import Manifest
from manifests.pods import pods
from manifests.rendering import kubectl, render

from tests.k8s.places import NO_KUBECTL, OVERLAYS

KUBECONFIG = os.environ.get("METADIST_TEST_KUBECONFIG")
PLACE = "metadist-dry-run"

pytestmark = pytest.mark.skipif(
    not KUBECONFIG, reason="no API server: METADIST_TEST_KUBECONFIG names none"
)


def run(*arguments: str, text: str | None = None) -> str:
    program = kubectl()
    if program is None:
        pytest.skip(NO_KUBECTL)
    command = [program, f"--kubeconfig={KUBECONFIG}", *arguments]
    made = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def place():
    """A namespace with restricted pod security, in which nothing is made but dry runs."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    metadata = {"name": PLACE, "labels": levels}
    documents = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata},
        # Made by a controller, later or never; pods are refused before.
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": PLACE},
        },
    ]
    run("apply", "-f", "-", text=yaml.safe_dump_all(documents))
    yield PLACE
    run("delete", "namespace", PLACE, "--wait=false")


def moved(manifest: Manifest) -> dict:
    """An object in the test's namespace."""
    body = deepcopy(manifest.body)
    body["metadata"]["namespace"] = PLACE
    return body


def pod_documents(manifest: Manifest):
    """The pods that Ray's kinds hide, as pods: admission looks at those only."""
    if not manifest.kind.startswith("Ray"):
        return
    for number, pod in enumerate(pods(manifest)):
        spec = {**pod.spec, "restartPolicy": "Never"}
        spec.pop("serviceAccountName", None)
        metadata = {"name": f"pod-{number}", "namespace": PLACE}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("part", ["", "train", "tune", "evaluate"])
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda p: p.name)
def test_the_server_takes_it(place, overlay, part):
    objects = [m for m in render(overlay / part) if m.kind != "Namespace"]
    documents = [moved(m) for m in objects] + [d for m in objects for d in pod_documents(m)]
    said = run("apply", "--dry-run=server", "-f", "-", text=yaml.safe_dump_all(documents))
    assert said.count("server dry run") == len(documents)
