"""What is wrong with a file for Ray's cluster launcher, as lines; an empty list if nothing is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema

#: The schema leaves the provider block open: a misspelt key would pass. These are the keys that
#: Ray 2.60 reads, for the providers that we have files for.
PROVIDER_KEYS = {
    "aws": {
        "type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips",
        "security_group", "key_pair", "cloudwatch", "aws_credentials",
    },
    "gcp": {"type", "region", "availability_zone", "project_id", "gcp_credentials",
            "use_internal_ips"},
    "local": {"type", "head_ip", "worker_ips", "external_head_ip", "coordinator_address"},
}  # fmt: skip
TOKEN = "~/.ray/auth_token"
ENVIRONMENT = ". ~/metadist/env.sh && "


def schema() -> dict[str, Any]:
    """Ray's own schema of the file, from the installed wheel."""
    spec = find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "autoscaler" / "ray-schema.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def by_schema(config: dict[str, Any]) -> list[str]:
    """What Ray's schema says."""
    validator = jsonschema.Draft7Validator(schema())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(config)]


def by_provider(config: dict[str, Any]) -> list[str]:
    """Keys of the provider block that Ray does not read, or lacks."""
    provider = config["provider"]
    known = PROVIDER_KEYS.get(provider["type"])
    if known is None:
        return [f"provider.type: {provider['type']!r} is none of {sorted(PROVIDER_KEYS)}"]
    found = [f"provider.{key}: unknown" for key in sorted(set(provider) - known)]
    needed = {"local": {"head_ip", "worker_ips"}, "gcp": {"project_id", "region"}}
    missing = needed.get(provider["type"], {"region"}) - set(provider)
    return found + [f"provider.{key}: missing" for key in sorted(missing)]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


def by_our_rules(config: dict[str, Any], checkout: Path) -> list[str]:
    """What neither the schema nor Ray looks at, and what a user would find out by paying."""
    return [
        *_commands(config),
        *_secrets(config),
        *_files(config, checkout),
        *_node_types(config),
        *_open_to(config),
    ]


def _commands(config: dict[str, Any]) -> Iterator[str]:
    wanted = {
        "head_start_ray_commands": ("--head", "--autoscaling-config=~/ray_bootstrap_config.yaml"),
        "worker_start_ray_commands": ("--address=$RAY_HEAD_IP:6379",),
    }
    for key, options in wanted.items():
        commands = config.get(key) or []
        if not any(c.endswith("ray stop") for c in commands[:1]):
            yield f"{key}: does not begin with 'ray stop', which a second 'ray up' needs"
        for command in commands:
            if not command.startswith(ENVIRONMENT):
                yield f"{key}: does not begin with {ENVIRONMENT!r}: no token, no metadist"
        starts = " ".join(c for c in commands if "ray start" in c)
        for option in options:
            if option not in starts.split():
                yield f"{key}: 'ray start' without {option}"
        version_1 = "RAY_enable_autoscaler_v2=0" in starts.split()
        if "--head" in options and config["provider"]["type"] == "local" and not version_1:
            yield f"{key}: version 2 of the autoscaler leaves out the last of the machines"
        if "--head" in options and "--dashboard-host=127.0.0.1" not in starts.split():
            yield f"{key}: whoever reaches the dashboard may run code: --dashboard-host=127.0.0.1"
    if not any("metadist/install.sh" in c for c in config["setup_commands"]):
        yield "setup_commands: metadist is not installed"
    if not any(c.endswith("'. ~/metadist/env.sh' >> ~/.bashrc") for c in config["setup_commands"]):
        yield "setup_commands: no 'ray' for 'ray down', which would leave Ray running"


def _secrets(config: dict[str, Any]) -> Iterator[str]:
    for text in _strings(config):
        if re.search(r"RAY_AUTH_TOKEN=|\b[0-9a-f]{32,}\b|AKIA[0-9A-Z]{16}", text):
            yield f"a secret in the file: {text[:40]}…"
        if "RAY_AUTH_MODE=disabled" in text:
            yield "authentication is switched off"
    if config.get("file_mounts", {}).get(TOKEN) != TOKEN:
        yield f"file_mounts: {TOKEN} is not brought to the machines"
    if f"chmod 600 {TOKEN}" not in config.get("setup_commands", []):
        yield f"setup_commands: {TOKEN} is left readable for others"


def _files(config: dict[str, Any], checkout: Path) -> Iterator[str]:
    mounts = config.get("file_mounts", {})
    for target, source in mounts.items():
        made_by_the_user = source in (TOKEN, "dist")
        if not made_by_the_user and not (checkout / source).is_file():
            yield f"file_mounts: {target}: there is no {source}"
    for needed in ("dist", "constraints.txt", "install.sh", "env.sh"):
        if f"~/metadist/{needed}" not in mounts:
            yield f"file_mounts: ~/metadist/{needed} is not brought to the machines"


def _node_types(config: dict[str, Any]) -> Iterator[str]:
    types = config.get("available_node_types", {})
    for name, node in types.items():
        if "min_workers" not in node or "max_workers" not in node:
            yield f"available_node_types.{name}: min_workers and max_workers are to be written out"
        elif node["min_workers"] > node["max_workers"]:
            yield f"available_node_types.{name}: min_workers is above max_workers"
    workers = [n for n in types if n != config.get("head_node_type")]
    if len(workers) > 1:
        yield f"several types of workers ({', '.join(workers)}): their bits may differ"
    head = types.get(config.get("head_node_type"), {})
    if types and head.get("resources", {}).get("CPU") != 0:
        yield "the head has CPUs for training: its loss would cost more than a worker's"
    spot = ("InstanceMarketOptions", "scheduling")
    if any(key in head.get("node_config", {}) for key in spot):
        yield "the head may be taken away at any time: no spot machine there"


def _open_to(config: dict[str, Any]) -> Iterator[str]:
    rules = config["provider"].get("security_group", {}).get("IpPermissions", [])
    for rule in rules:
        ranges = [r.get("CidrIp", "") for r in rule.get("IpRanges", [])]
        if rule.get("FromPort") != 22 or rule.get("ToPort") != 22 or "0.0.0.0/0" in ranges:
            yield "security_group: only ssh, and not from everywhere"
    if config["provider"]["type"] == "aws" and not rules:
        yield "security_group: without rules Ray lets ssh in from everywhere"


def by_ray(config: dict[str, Any]) -> list[str]:
    """What Ray itself says of the file before it launches anything.

    Raises:
        ImportError: this Ray has these functions, which are its own business, no more.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(json.loads(json.dumps(config))))
    except Exception as error:  # of many kinds, click's and jsonschema's among them
        return [str(error) or type(error).__name__]
    return []
