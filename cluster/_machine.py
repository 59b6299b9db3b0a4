"""One machine of a rehearsal: namespaces of the kernel, a cable, and what runs inside."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PORT = 6379
OWN = ("/dev/shm", "/tmp/ray")  # each machine has an empty one of its own
READY = "/tmp/ray/ray_current_cluster"  # `ray start` writes it when it has come up
#: What a machine must not know of the cluster that its caller may be connected to.
FOREIGN = ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_AUTH_TOKEN", "RAY_TMPDIR")


class Failure(Exception):
    """Something the user can act on; shown as one line."""


def run(*command: str) -> str:
    """Output of a command that must end well."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise Failure(f"{' '.join(command)}: {said}")
    return done.stdout


def ours(path: str, flags: int) -> int:
    """As ``opener``: no link is followed, and nobody else may write, whatever the umask."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o644)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def started_at(pid: int) -> str | None:
    """When a process was started, in ticks of the kernel; None if it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


@dataclasses.dataclass
class Cable:
    """What was done to a machine's cable; it outlives the machine's being switched off."""

    cut: bool = False
    rate: str | None = None


@dataclasses.dataclass
class Plan:
    """What a rehearsal consists of; the only thing that is written down."""

    count: int
    prefix: str = "md"
    subnet: str = ""
    cpus: int = 1
    head_cpus: int | None = None
    ray: bool = True
    respawn: bool = True
    durable_head: bool = False
    bin: str = ""
    env: list[str] = dataclasses.field(default_factory=list)
    ray_args: list[str] = dataclasses.field(default_factory=list)
    head_args: list[str] = dataclasses.field(default_factory=list)
    own: list[str] = dataclasses.field(default_factory=list)
    made: list[str] = dataclasses.field(default_factory=list)
    cables: dict[str, Cable] = dataclasses.field(default_factory=dict)


class Machine:
    """One machine: a network namespace with a cable, and the processes below its first one."""

    def __init__(self, state: Path, plan: Plan, number: int) -> None:
        self.state, self.plan, self.number = state, plan, number
        self.name = f"{plan.prefix}{number}"
        self.switch_port = f"{plan.prefix}v{number}"
        network = ipaddress.ip_network(plan.subnet)
        self.ip = str(network[10 + number])
        self.host_ip = f"{network[1]}/{network.prefixlen}"
        self.own_ip = f"{self.ip}/{network.prefixlen}"
        self.log = state / f"machine-{number}.log"
        self._pid_file = state / f"machine-{number}.pid"
        self.cable = plan.cables.setdefault(str(number), Cable())

    @property
    def init(self) -> int | None:
        """Process id, seen from outside, of the machine's first process; None if it is off."""
        with contextlib.suppress(OSError, ValueError):
            pid, ticks = self._pid_file.read_text().split()
            if started_at(int(pid)) == ticks:
                return int(pid)
        return None

    def ray_is_up(self) -> bool:
        return self.init is not None and os.path.exists(f"/proc/{self.init}/root{READY}")

    def environment(self) -> dict[str, str]:
        """What its processes see: the caller's environment and what belongs to the cluster."""
        plan = self.plan
        env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        env |= {
            "PATH": f"{plan.bin}:{os.environ['PATH']}" if plan.bin else os.environ["PATH"],
            "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.state / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "GLOO_SOCKET_IFNAME": "eth0",
            "NCCL_SOCKET_IFNAME": "eth0",
        }
        if plan.durable_head:
            env |= {
                "RAY_gcs_storage": "rocksdb",
                "RAY_gcs_storage_path": str(self.state / "gcs"),
                "RAY_gcs_rpc_server_reconnect_timeout_s": "120",
            }
        return env | dict(pair.split("=", 1) for pair in plan.env)

    def ray_command(self) -> list[str]:
        plan, head = self.plan, str(ipaddress.ip_network(self.plan.subnet)[11])
        cpus, own = plan.cpus, [f"--address={head}:{PORT}"]
        if self.number == 1:
            cpus = plan.cpus if plan.head_cpus is None else plan.head_cpus
            own = ["--head", f"--port={PORT}", f"--dashboard-host={head}"]
        command = [str(Path(plan.bin) / "ray"), "start", "--block", f"--node-ip-address={self.ip}"]
        command += [f"--num-cpus={cpus}", f'--resources={{"machine_{self.number}": 1}}', *own]
        command += ["--object-store-memory=100000000", "--disable-usage-stats", *plan.ray_args]
        return command + (plan.head_args if self.number == 1 else [])

    def power_on(self) -> None:
        """New network, empty memory, the same disk."""
        if self.init is not None:
            return
        self._remove_network()
        port = self.switch_port
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        # The same card as before: its neighbours may still remember it.
        card = f"02:6d:64:00:00:{self.number:02x}"
        run("ip", "-n", self.name, "link", "set", "eth0", "address", card)
        run("ip", "-n", self.name, "addr", "add", self.own_ip, "dev", "eth0")
        run("ip", "-n", self.name, "link", "set", "eth0", "up")
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "link", "set", port, "master", f"{self.plan.prefix}br")
        self.apply_cable()
        run("ip", "-n", self.name, "route", "add", "default", "via", self.host_ip.split("/")[0])
        self._pid_file.unlink(missing_ok=True)
        inside = ["ip", "netns", "exec", self.name, "unshare", "--pid", "--fork"]
        inside += ["--kill-child=KILL", "--mount", "--uts", sys.executable]
        inside += [str(Path(__file__).with_name("netns")), "--state", str(self.state)]
        with open(self.log, "ab", opener=ours) as output:
            first = subprocess.Popen(
                [*inside, "boot", str(self.number)],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        booted = until(lambda: self.init is not None or first.poll() is not None, 20)
        if not booted or self.init is None:
            raise Failure(f"machine {self.number} does not boot: {self.last_words()}")
        first.returncode = 0  # it is to go on without this process, which does not wait for it

    def apply_cable(self) -> None:
        """Let the cable be what is written down of it."""
        run("ip", "link", "set", self.switch_port, "down" if self.cable.cut else "up")
        ends = (["tc", "-n", self.name], "eth0"), (["tc"], self.switch_port)
        for tc, device in ends:
            if self.cable.rate is None:
                subprocess.run([*tc, "qdisc", "del", "dev", device, "root"], capture_output=True)
            else:
                bucket = ["tbf", "rate", self.cable.rate, "burst", "32kbit", "latency", "50ms"]
                run(*tc, "qdisc", "replace", "dev", device, "root", *bucket)

    def end(self, *, silently: bool) -> None:
        """All processes at once; silently: nothing of it is heard on the network."""
        if silently:
            subprocess.run(["ip", "link", "set", self.switch_port, "down"], capture_output=True)
        if (init := self.init) is not None:
            os.kill(init, signal.SIGKILL)  # the first process of a process table takes all along
        exists = Path(f"/run/netns/{self.name}").exists()
        if exists and not until(lambda: not run("ip", "netns", "pids", self.name).split(), 20):
            left = " ".join(run("ip", "netns", "pids", self.name).split())
            raise Failure(f"machine {self.number}: processes {left} do not end")
        if silently:
            # Its kernel is gone too: no old connection may say goodbye when the cable is back.
            self._remove_network()
        self._pid_file.unlink(missing_ok=True)

    def _remove_network(self) -> None:
        subprocess.run(["ip", "link", "del", self.switch_port], capture_output=True)
        if Path(f"/run/netns/{self.name}").exists():
            run("ip", "netns", "del", self.name)

    def enter(self, command: list[str]) -> None:
        """Become a command that runs on this machine, in this directory."""
        if (init := self.init) is None:
            raise Failure(f"machine {self.number} is off; switch it on: power-on {self.number}")
        flags = ["-t", str(init), "-n", "-m", "-p", "-u", "--", "env", "-C", os.getcwd()]
        os.execvpe("nsenter", ["nsenter", *flags, *command], self.environment())

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n  ".join([f"the end of {self.log} is", *lines[-8:]])

    def boot(self) -> None:
        """What the machine's first process does: make it a machine, then look after Ray."""
        # Before the new /proc is mounted, the old one tells how this process is called outside.
        outside = int(os.readlink("/proc/self"))
        run("mount", "-t", "proc", "proc", "/proc")
        for folder in (*OWN, *self.plan.own):
            seen = os.stat(folder)  # sshd, for one, wants nobody else to write where it lives
            options = f"mode={seen.st_mode & 0o7777:o},uid={seen.st_uid},gid={seen.st_gid}"
            run("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
        run("mount", "--bind", str(self.state / "hosts"), "/etc/hosts")
        socket.sethostname(self.name)
        # In the new /proc this process is number 1; the time of its start is the same.
        temporary = self._pid_file.with_suffix(".new")
        with open(temporary, "w", opener=ours) as file:
            file.write(f"{outside} {started_at(1)}")
        temporary.rename(self._pid_file)
        while True:
            if self.plan.ray:
                Path(READY).unlink(missing_ok=True)
                ray = subprocess.Popen(self.ray_command(), start_new_session=True)
                _reap(ray.pid)
                Path(READY).unlink(missing_ok=True)
                print(f"machine {self.number}: Ray has ended", flush=True)
            if not (self.plan.ray and self.plan.respawn):
                _reap(None)
            time.sleep(1)


def _reap(until_pid: int | None) -> None:
    """Bury every orphan of the machine, until one process has ended or for ever."""
    while True:
        try:
            if os.wait()[0] == until_pid:
                return
        except ChildProcessError:
            time.sleep(1)
