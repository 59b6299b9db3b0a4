"""The images hold what constraints.txt pins, and run as a user that is not root."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest
from packaging.utils import canonicalize_name

from tests.k8s.places import K8S, ROOT

CONTAINERFILE = K8S / "image" / "Containerfile"


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Keyword and rest of each instruction, continued lines joined, comments left out."""
    lines = CONTAINERFILE.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    pairs = (line.split(None, 1) for line in joined if line.strip())
    return [(keyword, " ".join(rest.split())) for keyword, rest in pairs]


def _stages(instructions: list[tuple[str, str]]) -> dict[str, str]:
    """Name of each stage -> what it is made from."""
    froms = (rest.split() for keyword, rest in instructions if keyword == "FROM")
    return {words[2]: words[0] for words in froms}


def test_both_images_are_of_the_base_that_is_not_root(instructions):
    stages = _stages(instructions)
    assert stages["metadist"] == stages["metadist-mlflow"] == "base"
    users = [rest for keyword, rest in instructions if keyword == "USER"]
    assert users == ["1000:1000"]
    assert list(stages)[-1] == "metadist", "a build without --target makes the image of Ray's pods"


def test_everything_installed_is_pinned(instructions):
    pins = {
        canonicalize_name(line.split("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    installs = [
        part
        for keyword, rest in instructions
        if keyword == "RUN"
        for part in rest.split("&&")
        if "pip " in part and " install " in part
    ]
    assert len(installs) == 4
    for install in installs:
        constrained = "-c constraints.txt" in install
        assert constrained or "torch==$(sed" in install
        if constrained:
            words = shlex.split(install.split("-c constraints.txt")[1])
            for word in words:
                name = re.split(r"[\[<>=]", word)[0]
                built_here = name.startswith("$(echo /dist/")
                assert built_here or canonicalize_name(name) in pins


def test_what_is_copied_is_in_the_context(instructions):
    copied = [rest.split() for keyword, rest in instructions if keyword == "COPY"]
    sources = {s for words in copied if "--from" not in words[0] for s in words[:-1]}
    ignore = CONTAINERFILE.with_name("Containerfile.dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert sources == admitted
    assert all((ROOT / source).exists() for source in sources)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert set(wheel["targets"]["wheel"]["packages"]) <= sources


def test_the_base_names_a_version(instructions):
    bases = [rest.split("=", 1)[1] for k, rest in instructions if k == "ARG" and "PYTHON=" in rest]
    (base,) = bases
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm", base)
