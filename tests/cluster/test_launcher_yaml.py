"""The files for Ray's cluster launcher: sound by Ray's schema, by Ray, and by our own rules."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import launcher_yaml
import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
FILES = sorted((CHECKOUT / "cluster").glob("*.yaml"))


def _load(name: str) -> Any:
    return yaml.safe_load((CHECKOUT / "cluster" / f"{name}.yaml").read_text())


def _by_our_rules(config: Any) -> list[str]:
    return launcher_yaml.by_our_rules(config, CHECKOUT)


CHECKS = {
    "schema": launcher_yaml.by_schema,
    "provider": launcher_yaml.by_provider,
    "ours": _by_our_rules,
}


def test_there_is_one_for_each_target() -> None:
    assert [file.stem for file in FILES] == ["aws", "gcp", "onprem"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_sound(file: Path, check: str) -> None:
    assert CHECKS[check](_load(file.stem)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_ray_takes_it(file: Path) -> None:
    assert launcher_yaml.by_ray(_load(file.stem)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_first_lines_say_how_to_use_it(file: Path) -> None:
    usage = file.read_text().partition("cluster_name:")[0]
    assert "--resume auto" in usage
    assert f"ray up cluster/{file.name}" in usage
    assert f"ray down cluster/{file.name}" in usage


def test_a_token_is_made_for_its_owner_alone() -> None:
    """Ray's command leaves it to the umask who else may read the file."""
    texts = [*(CHECKOUT / "docs").glob("*.md"), CHECKOUT / "README.md", CHECKOUT / "k8s/README.md"]
    lines = [line for text in [*FILES, *texts] for line in text.read_text().splitlines()]
    told = [line for line in lines if "get-auth-token --generate" in line]
    assert len(told) >= len(FILES) + 1
    assert [line for line in told if "(umask 077; ray get-auth-token --generate)" not in line] == []


def _put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = value

    return change


def _drop(*path: Any) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        for key in path[:-1]:
            config = config[key]
        del config[path[-1]]

    return change


def _replace(key: str, old: str, new: str) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        assert any(old in command for command in config[key])
        config[key] = [command.replace(old, new) for command in config[key]]

    return change


SSH = ["provider", "security_group", "IpPermissions", 0]
MISTAKES = [
    ("schema", "aws", _put("max_worker", value=2), "max_worker"),
    ("schema", "aws", _put("available_node_types", "worker", "min_worker", value=1), "min_worker"),
    ("schema", "gcp", _drop("provider", "type"), "'type' is a required property"),
    ("schema", "onprem", _put("setup_commands", value="bash"), "is not of type 'array'"),
    ("provider", "onprem", _put("provider", "head_ipp", value="10.0.0.1"), "head_ipp: unknown"),
    ("provider", "onprem", _drop("provider", "worker_ips"), "worker_ips: missing"),
    ("provider", "aws", _put("provider", "zone", value="a"), "zone: unknown"),
    ("provider", "gcp", _drop("provider", "project_id"), "project_id: missing"),
    ("provider", "gcp", _put("provider", "type", value="gpc"), "'gpc' is none of"),
    ("ray", "aws", _put("head_node_type", value="haed"), "must be one of `available_node_types`"),
    ("ray", "gcp", _put("max_workers", value=1), "smaller than the sum of `min_workers`"),
    ("ours", "aws", _replace("head_start_ray_commands", "127.0.0.1", "0.0.0.0"), "may run code"),
    ("ours", "aws", _replace("head_start_ray_commands", "--head", "--haed"), "without --head"),
    ("ours", "gcp", _replace("head_start_ray_commands", "--autoscaling", "--auto"), "without --a"),
    ("ours", "gcp", _replace("worker_start_ray_commands", ":6379", ":6380"), "without --address"),
    ("ours", "gcp", _replace("worker_start_ray_commands", "env.sh", "en.sh"), "no token"),
    (
        "ours",
        "onprem",
        _replace("worker_start_ray_commands", "ray stop", "true"),
        "begin with 'ray",
    ),
    ("ours", "onprem", _replace("setup_commands", "install.sh", "instal.sh"), "not installed"),
    ("ours", "onprem", _replace("head_start_ray_commands", "v2=0", "v2=1"), "leaves out the last"),
    ("ours", "onprem", _replace("setup_commands", "600", "644"), "readable for others"),
    ("ours", "onprem", _replace("setup_commands", ".bashrc", ".zshrc"), "leave Ray running"),
    ("ours", "onprem", _drop("file_mounts", "~/.ray/auth_token"), "auth_token is not brought"),
    ("ours", "onprem", _drop("file_mounts", "~/metadist/env.sh"), "env.sh is not brought"),
    ("ours", "aws", _put("file_mounts", "~/x", value="cluster/x"), "there is no cluster/x"),
    ("ours", "aws", _put("metadata", value={"t": "RAY_AUTH_TOKEN=abc"}), "a secret"),
    ("ours", "aws", _put("metadata", value={"t": "0123456789abcdef" * 4}), "a secret"),
    ("ours", "aws", _put("metadata", value=["RAY_AUTH_MODE=disabled"]), "switched off"),
    ("ours", "aws", _put("available_node_types", "worker", "min_workers", value=9), "above max"),
    ("ours", "aws", _drop("available_node_types", "worker", "max_workers"), "written out"),
    ("ours", "gcp", _put("available_node_types", "big", value={"node_config": {}}), "may differ"),
    ("ours", "gcp", _put("available_node_types", "head", "resources", value={}), "has CPUs"),
    ("ours", "gcp", _put("head_node_type", value="worker"), "taken away"),
    ("ours", "aws", _put(*SSH, "ToPort", value=9000), "only ssh"),
    ("ours", "aws", _put(*SSH, "IpRanges", value=[{"CidrIp": "0.0.0.0/0"}]), "not from everywhere"),
    ("ours", "aws", _drop("provider", "security_group"), "from everywhere"),
]


@pytest.mark.parametrize(("check", "name", "mistake", "said"), MISTAKES)
def test_a_planted_mistake_is_found(
    check: str, name: str, mistake: Callable[[Any], None], said: str
) -> None:
    config = copy.deepcopy(_load(name))
    mistake(config)
    found = launcher_yaml.by_ray(config) if check == "ray" else CHECKS[check](config)
    assert any(said in line for line in found), found


@pytest.mark.parametrize("script", ["install.sh", "env.sh"])
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", str(CHECKOUT / "cluster" / script)], check=True)


def test_the_environment_holds_no_secret_and_demands_one() -> None:
    shown = subprocess.run(
        ["env", "-i", "HOME=/home/x", "PATH=/bin:/usr/bin", "bash", "-c",
         f". {CHECKOUT}/cluster/env.sh && env"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = shown.stdout.splitlines()
    assert "RAY_AUTH_MODE=token" in lines
    assert "RAY_AUTH_TOKEN_PATH=/home/x/.ray/auth_token" in lines
    assert "PATH=/home/x/metadist/venv/bin:/bin:/usr/bin" in lines
    assert not any(line.startswith("RAY_AUTH_TOKEN=") for line in lines)


@pytest.mark.parametrize(
    ("wheels", "said"),
    [(0, r"there is no wheel in .*/dist; build it"), (2, r"there is no .*/constraints\.txt")],
)
def test_installing_without_what_it_needs(tmp_path: Path, wheels: int, said: str) -> None:
    script = tmp_path / "install.sh"
    script.write_text((CHECKOUT / "cluster" / "install.sh").read_text())
    (tmp_path / "dist").mkdir()
    for version in range(wheels):
        (tmp_path / "dist" / f"metadist-{version}-py3-none-any.whl").touch()
    refused = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert refused.returncode == 1
    assert re.search(said, refused.stderr), refused.stderr
