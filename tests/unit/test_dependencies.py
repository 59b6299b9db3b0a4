"""What we import is declared, with lower bounds that are tried, and nothing of it is private."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import import_module, metadata
from pathlib import Path

import pytest
from lowest import direct, lower_bound
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
OWN = ("metadist", "data_pipeline", "tune_spaces")
#: Who imports a private module of a dependency, and which. Each import is guarded, in a test, or
#: tried at both ends of the bounds by whatever starts a private Ray.
PRIVATE = {
    ("metadist/executors/control/elastic_group.py", "ray._private.state"),
    ("metadist/executors/cluster/ray_processes.py", "ray._private"),
    ("metadist/executors/cluster/private_ray.py", "ray._raylet"),
    ("metadist/contracts/differences.py", "torch.utils._python_dispatch"),
    ("tests/distributed/test_cluster.py", "ray.train.v2._internal.exceptions"),
    ("tests/k8s/test_rules.py", "ray._private"),
    ("tests/support/launcher_yaml.py", "ray.autoscaler._private.util"),
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """File and module of every import of something that is neither Python's nor ours."""
    files = [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).glob("netns")]
    # Scripts and tests import what lies beside them; packages do not.
    beside = set() if folder in OWN else {path.stem for path in (ROOT / folder).rglob("*")}
    known = {*sys.stdlib_module_names, *OWN, "tests", *beside}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module in _modules(node):
                if module.partition(".")[0] not in known:
                    yield str(path.relative_to(ROOT)), module


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        # A private name that is imported may be a module.
        private = [f"{node.module}.{a.name}" for a in node.names if re.match("_[^_]", a.name)]
        return [node.module, *private]
    return []


def names(lines: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("metadist", ["tune"]),
        ("data_pipeline", ["s3"]),
        ("tune_spaces", []),
        ("cluster", None),
        ("tests", ["tune", "dev", "docs", "s3"]),
    ],
)
def test_every_import_is_a_declared_dependency(folder, extras):
    declared = set()
    if extras is not None:
        declared = names([*PROJECT["dependencies"], *(x for e in extras for x in EXTRAS[e])])
    brought_by = metadata.packages_distributions()
    undeclared = {
        (file, module)
        for file, module in imports(folder)
        if not {canonicalize_name(d) for d in brought_by.get(module.partition(".")[0], ())}
        & declared
    }
    assert not undeclared


@pytest.mark.slow
def test_private_modules_are_imported_where_it_is_known_alone():
    private = {
        (file, module)
        for folder in (*OWN, "cluster", "tests")
        for file, module in imports(folder)
        if re.search(r"(^|\.)_|\.v2\.", module)
    }
    assert private == PRIVATE


def test_what_ray_does_not_promise_is_there():
    # Without these a run still ends, but heeds no notice of a node and gives up where it can wait.
    from metadist.executors.worker_group import NO_PLACE

    assert callable(import_module("ray._private.state").state.get_draining_nodes)
    assert issubclass(
        getattr(import_module("ray.train.v2._internal.exceptions"), NO_PLACE), Exception
    )


def test_the_lower_bounds_are_the_versions_that_are_tried():
    file = ROOT / "tests/constraints-lowest.txt"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    tried = {canonicalize_name(n): Version(v) for n, v in (line.split("==") for line in lines)}
    bounds = {canonicalize_name(Requirement(x).name): Version(lower_bound(x)) for x in direct()}
    other = {name: (bound, tried.get(name)) for name, bound in bounds.items()}
    other = {name: both for name, both in other.items() if both[0] != both[1]}
    assert not other, f"{file.name} is of other bounds: make lock-lowest test-lowest"


def test_one_lower_bound_is_needed():
    assert lower_bound("a-b[x]>=1.2,<2") == "1.2"
    for line in ("name", "name<2", "name>=1,>=2"):
        with pytest.raises(ValueError, match="one lower bound"):
            lower_bound(line)


@pytest.mark.slow
def test_every_module_can_be_imported():
    code = (
        "import importlib, pkgutil\n"
        f"for name in {OWN}:\n"
        "    package = importlib.import_module(name)\n"
        "    for found in pkgutil.walk_packages(package.__path__, name + '.'):\n"
        "        if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
