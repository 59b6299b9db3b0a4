"""Jobs on three machines, of which some are lost, cut off or added: the same bits in the end."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from machines import Machines, machines_or_skip, wait

import metadist
from metadist.runs.attempts import Span, history
from metadist.runs.log import LogReader, series
from metadist.runs.run_dir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.cluster,
    pytest.mark.timeout(900),
]
STEPS = 300
SETTINGS = (
    f"outer.steps={STEPS}",
    "outer.batch=6",
    "inner.steps=5",
    "engine.mode=loop",
    "engine.chunk=1",
    "eval.every=100",
    "eval.episodes=10",
    "eval.val_episodes=6",
    "eval.extra_queries=0",
    "eval.steps=5",
    "run.checkpoint_every=20",
)
RECIPE = "sinusoid-10shot-maml"
PACE = {"OMP_NUM_THREADS": "1", "METADIST_RESIZE_EVERY_S": "5"}
#: Prints the time of each node's death.
OBSERVER = """
import ray, sys, time
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
dead = set()
while True:
    for node in ray.nodes():
        if not node["Alive"] and node["NodeID"] not in dead:
            dead.add(node["NodeID"])
            print("DEAD", node["NodeManagerAddress"], time.time(), flush=True)
    time.sleep(0.2)
"""

#: Prints the id of the node that has a resource.
NODE_ID = """
import ray
ray.init(address={!r}, logging_level="ERROR", log_to_driver=False)
print("ID", [n["NodeID"] for n in ray.nodes() if n["Alive"] and {!r} in n["Resources"]][0])
"""


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The digest of the same recipe in this process."""

    @functools.cache
    def trained(*more: str) -> str:
        place = tmp_path_factory.mktemp("expected")
        result = metadist.train(
            RECIPE,
            overrides=[*SETTINGS, *more],
            offline=True,
            runs_dir=place / "runs",
            data_dir=place / "data",
        )
        digest: str = result["params_sha256"]
        return digest

    return trained


@pytest.fixture(scope="module")
def expected(digest: Callable[..., str]) -> str:
    """Of the settings as they are."""
    return digest()


@dataclass
class Training:
    """``metadist train``, as a job or on machine 1, and what becomes of it."""

    place: Path
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.time)

    @property
    def run(self) -> RunDir:
        return RunDir(self.place / "runs" / "x")

    @property
    def step(self) -> int:
        if not (self.run.path / "run.json").is_file():
            return 0
        points = LogReader(self.run).poll()
        return max((p.step for p in points if p.metric == "train/loss"), default=0)

    @property
    def said(self) -> str:
        return (self.place / "err").read_text()

    def reaches(self, step: int, seconds: float = 120) -> None:
        """Wait until the log has a step."""

        def there() -> bool:
            assert self.process.poll() is None, self.said[-3000:]
            return self.step >= step

        wait(there, f"step {step}", seconds)

    def ends(self, seconds: float = 300) -> dict[str, Any]:
        """The result, when the command has ended well."""
        self.process.wait(seconds)
        assert self.process.returncode == 0, self.said[-3000:]
        printed = json.loads((self.place / "out").read_text().splitlines()[-1])
        result: dict[str, Any] = printed["result"] if "job" in printed else printed
        return result

    @property
    def spans(self) -> list[Span]:
        return history(self.run)


Start = Callable[..., Training]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Three machines for all tests here: switching them on takes longer than most tests."""
    machines_or_skip()
    with Machines(tmp_path_factory.mktemp("machines") / "state", 3, env=PACE) as machines:
        yield machines


@pytest.fixture
def three(machines: Machines) -> Machines:
    """The machines, whole again after whatever the test before has done to them."""
    found = machines.status()["machines"]
    broken = [
        m["machine"]
        for m in found
        if m["power"] == "off" or m["cable"] == "cut" or m["ray"] == "down"
    ]
    if broken:
        machines.heal(*broken)
        if 1 in broken:  # nobody finds a head that has lost its memory
            broken = [1, 2, 3]
        machines.power_off(*broken)
        machines.power_on(*broken)
    machines.wait_for_nodes(3)
    return machines


def line(place: Path, workers: str, *more: str) -> list[str]:
    """The command line of the run."""
    words = ["train", RECIPE, "--name", "x", "--offline", "--workers", workers]
    words += ["--runs-dir", str(place / "runs"), "--data-dir", str(place / "data")]
    for setting in SETTINGS:
        words += ["--set", setting]
    return [*words, *more]


@pytest.fixture
def submit(machines: Machines, tmp_path: Path) -> Iterator[Start]:
    """Submit the training from this box, which is none of the machines, and follow it."""
    followers: list[Training] = []

    def go(workers: str, *more: str, retries: int = 0) -> Training:
        command = [sys.executable, "-m", "metadist", "submit", "--json", "--retries", str(retries)]
        command += ["--address", f"http://{machines.head.rpartition(':')[0]}:8265", "--"]
        command += line(tmp_path, workers, *more)
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(machines.state / "token")}
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **token})
        followers.append(Training(tmp_path, process))
        return followers[-1]

    yield go
    for one in followers:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def start(machines: Machines, tmp_path: Path) -> Start:
    """Start the training on machine 1, its driver being the command itself."""

    def go(workers: str, *more: str) -> Training:
        command = ["metadist", *line(tmp_path, workers, "--json", "--address", machines.head)]
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            process = machines.start(1, *command, *more, stdout=out, stderr=err)
        return Training(tmp_path, process)

    return go


@pytest.mark.long
def test_a_submitted_recipe_is_trained_on_all_machines(
    three: Machines, submit: Start, expected: str
) -> None:
    training = submit("3")  # each machine has a place for one
    assert training.ends()["params_sha256"] == expected
    assert [span.world_size for span in training.spans] == [3]


def test_a_machine_loses_its_power(three: Machines, submit: Start, expected: str) -> None:
    training = submit("1:3")
    training.reaches(30)
    three.power_off(3)
    result = training.ends()
    assert result["params_sha256"] == expected
    sizes = [span.world_size for span in training.spans]
    assert sizes[0] == 3
    assert set(sizes[1:]) == {2}
    assert "Workers lost" in training.said


def _death(observer: subprocess.Popen[bytes], address: str, after: float) -> float:
    """When Ray has declared a node dead."""
    assert observer.stdout is not None
    for line in observer.stdout:  # Ray writes there too
        words = line.decode(errors="replace").split()
        if words[:2] == ["DEAD", address] and float(words[2]) > after:
            return float(words[2])
    raise AssertionError("the observer has ended")


@pytest.mark.long
def test_a_machine_is_cut_off(three: Machines, submit: Start, expected: str) -> None:
    """A cut cable ends no collective by itself: the group has to be ended when Ray notices."""
    observer = three.start(1, "python", "-u", "-c", OBSERVER, three.head, stdout=subprocess.PIPE)
    training = submit("1:3")
    training.reaches(30)
    three.partition(2)
    died = _death(observer, f"{three.host_ip.rpartition('.')[0]}.12", training.began)
    wait(lambda: "Workers lost" in training.said, "the group to be ended", 60)
    assert time.time() - died < 15
    result = training.ends()
    assert result["params_sha256"] == expected
    assert training.spans[-1].world_size == 2
    three.kill_command(observer)


@pytest.mark.long
def test_a_machine_joins(three: Machines, submit: Start, digest: Callable[..., str]) -> None:
    three.power_off(3)
    three.wait_for_nodes(2)
    longer = "outer.steps=1500"  # it is over before the machine is up else
    training = submit("1:3", "--set", longer)
    training.reaches(30)
    three.power_on(3)
    result = training.ends()
    assert result["params_sha256"] == digest(longer)
    sizes = [span.world_size for span in training.spans]
    assert (sizes[0], sizes[-1]) == (2, 3)
    assert all(span.redone == 0 for span in training.spans)  # it left with a checkpoint
    logged = [point.value for point in series(training.run)["perf/world_size"]]
    assert logged == sorted(logged)
    assert (logged[0], logged[-1]) == (2, 3)


@pytest.mark.long
def test_a_node_is_about_to_be_taken_away(
    three: Machines, submit: Start, digest: Callable[..., str]
) -> None:
    longer = "outer.steps=1500"  # a notice is looked for about once a second
    training = submit("1:3", "--set", longer)
    training.reaches(30)
    said = three.run(1, "python", "-c", NODE_ID.format(three.head, "machine_3"))
    [node] = re.findall(r"^ID (\w+)$", said, re.M)  # Ray writes there too
    three.run(
        1,
        *("ray", "drain-node", "--address", three.head, "--node-id", node),
        *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
        *("--deadline-remaining-seconds", "600"),
    )
    assert training.ends()["params_sha256"] == digest(longer)
    assert "will be taken away" in training.said
    assert [span.world_size for span in training.spans] == [3, 2]
    assert all(span.redone == 0 for span in training.spans)
    three.power_off(3)  # nobody takes the notice back


@pytest.mark.long
def test_the_driver_is_killed(three: Machines, start: Start, expected: str) -> None:
    training = start("3")
    training.reaches(30)
    three.kill_command(training.process)
    again = start("2", "--resume", "auto")
    assert again.ends()["params_sha256"] == expected
    assert [span.world_size for span in again.spans] == [3, 2]


@pytest.mark.long
def test_the_head_loses_its_power(three: Machines, submit: Start, expected: str) -> None:
    """The driver is lost with it; whoever follows the job submits it to the new head."""
    training = submit("3", retries=1)
    training.reaches(30)
    three.power_off(1)
    three.power_off(2, 3)  # a supervisor starts what has lost its head anew
    three.power_on(1, 2, 3)
    assert training.ends()["params_sha256"] == expected
    assert "submitting it again" in training.said
    assert len(training.spans) == 2
