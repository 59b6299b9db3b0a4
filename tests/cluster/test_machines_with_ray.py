"""A Ray cluster on machines loses some, gets them back, and keeps strangers out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machines, machines_or_skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.faults,
    pytest.mark.distributed,
    pytest.mark.timeout(600),
]

ON_EACH = """
import ray, socket
ray.init(address="{head}", logging_level="ERROR", log_to_driver=False)
where = ray.remote(num_cpus=1)(lambda: socket.gethostname())
print(*ray.get([where.options(resources={{f"machine_{{i}}": 0.5}}).remote() for i in (1, 2, 3)]))
"""
REMEMBER = """
import ray
ray.init(address="{head}", namespace="x", logging_level="ERROR", log_to_driver=False)
@ray.remote(num_cpus=0, resources={{"machine_2": 0.5}}, lifetime="detached", name="memory")
class Memory:
    def set(self, value): self.value = value
    def get(self): return self.value
memory = Memory.remote()
ray.get(memory.set.remote("kept"))
"""
RECALL = """
import ray
ray.init(address="{head}", namespace="x", logging_level="ERROR", log_to_driver=False)
print(ray.get(ray.get_actor("memory").get.remote()))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A head that keeps its tables, and two more machines."""
    machines_or_skip()
    state = tmp_path_factory.mktemp("cluster") / "state"
    with Machines(state, 3, "--durable-head", "--head-arg=--include-dashboard=false") as machines:
        yield machines


def _python(machines: Machines, code: str) -> str:
    return machines.run(1, "python", "-c", code.format(head=machines.head)).strip()


def _names(machines: Machines) -> str:
    return " ".join(f"{machines.prefix}{i}" for i in (1, 2, 3))


def test_work_goes_to_every_machine(cluster: Machines) -> None:
    assert _python(cluster, ON_EACH) == _names(cluster)


def test_another_token_is_refused(cluster: Machines, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    # Where the head's tables are on disk, a driver tries again for two minutes unless told not to.
    wrong = ["env", f"RAY_AUTH_TOKEN_PATH={token}", "RAY_gcs_server_port_wait_time_s=2"]
    with pytest.raises(AssertionError, match="AuthenticationError"):
        cluster.run(2, *wrong, "python", "-c", ON_EACH.format(head=cluster.head))


def test_off_and_on(cluster: Machines) -> None:
    cluster.power_off(3)
    cluster.wait_for_nodes(2)
    cluster.power_on(3)
    cluster.wait_for_nodes(3)
    assert _python(cluster, ON_EACH) == _names(cluster)


def test_cut_off_and_back(cluster: Machines) -> None:
    cluster.partition(3)
    cluster.wait_for_nodes(2)
    cluster.heal(3)
    # Its raylet gives up first; then the machine starts Ray again by itself.
    cluster.wait_for_nodes(3, seconds=150)
    assert _python(cluster, ON_EACH) == _names(cluster)


def test_head_off_and_on(cluster: Machines) -> None:
    _python(cluster, REMEMBER)
    cluster.power_off(1)
    cluster.power_on(1)
    assert _python(cluster, RECALL) == "kept"
    cluster.wait_for_nodes(3)
    assert _python(cluster, ON_EACH) == _names(cluster)
