"""The distribution itself: what it carries, what it came with, and who may import whom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("metadist", "data_pipeline", "tune_spaces")
CUDA = re.compile(r"(nvidia|cuda|triton|pytorch-triton)(-|$)")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """Name -> version of constraints.txt, in which every line is a comment or `name==version`."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), (
        "constraints.txt holds something else than name==version"
    )
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_typed(name):
    file = import_module(name).__file__
    assert file is not None, f"{name} has no __init__.py"
    assert Path(file).with_name("py.typed").is_file()


@pytest.mark.parametrize("files", ["recipes/*.toml", "**/*.j2", "**/*.css", "kernels/source/*"])
def test_recipes_and_templates_are_installed(files):
    import metadist

    installed, ours = Path(metadist.__file__).parent, ROOT / "metadist"
    found = {path.relative_to(ours) for path in ours.glob(files)}
    assert found
    assert {path.relative_to(installed) for path in installed.glob(files)} == found


def test_version_agrees():
    import metadist

    assert metadist.__version__ == metadata.version("metadist")


def test_entry_point_loads():
    (command,) = metadata.entry_points(group="console_scripts", name="metadist")
    assert callable(command.load())


def test_every_direct_dependency_is_pinned_within_its_bounds(project, pins):
    extras = project["optional-dependencies"].values()
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"constraints.txt pins {pin}, outside {line}"


def test_constraints_suit_any_build_of_torch(pins):
    assert not [name for name in pins if CUDA.match(name)]
    assert "+" not in pins["torch"], "a local label in the pin shuts out every other build of torch"


@pytest.mark.skipif(
    not os.environ.get("METADIST_EXPECT_CPU_TORCH"),
    reason="METADIST_EXPECT_CPU_TORCH is not set: torch may be a GPU build here",
)
def test_no_cuda_package_came_along(pins):
    names = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions()}
    assert not sorted(name for name in names if CUDA.match(name))
    assert metadata.version("torch").split("+")[0] == pins["torch"]


def test_import_contracts_hold():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
