"""Hosts on this machine: network namespaces behind one bridge, each with an address and a cable that can be pulled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.chaos.machines import CPUS_PER_NODE

_PORT = 6399
_START_SECONDS = 120.0


def why_not() -> str | None:
    """Why there can be no hosts here; None where there can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and `ip` (Debian's iproute2)"
    name = f"vp{os.getpid()}try"
    made = _ip("netns", "add", name, check=False)
    if made.returncode:
        return f"network namespaces need root and CAP_SYS_ADMIN: {made.stderr.strip()}"
    wired = _ip("link", "add", f"{name[:12]}", "type", "veth", "peer", "name", "eth0", "netns", name, check=False)
    _ip("netns", "del", name)
    return f"virtual cables need CAP_NET_ADMIN: {wired.stderr.strip()}" if wired.returncode else None


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=30)


class Hosts:
    """A Ray cluster with a host of its own for the head and for each node; a node that ends is started again.

    What runs on them shares this machine's disks, as nodes of a cluster share one.
    """

    def __init__(self, nodes: int, system_config: str) -> None:
        self._names = [f"vp{os.getpid()}h{number}" for number in range(nodes + 1)]
        self._bridge, self._network = f"vp{os.getpid()}", f"10.213.{os.getpid() % 256}"
        self._scratch = Path(tempfile.mkdtemp(prefix="vph", dir="/tmp"))
        self._system_config = system_config
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self.restarts = 0
        """How often a node ended by itself and was started again."""

    @property
    def address(self) -> str:
        """`host:port` of the cluster."""
        return f"{self._address_of(0)}:{_PORT}"

    @property
    def bridge_address(self) -> str:
        """Where what runs outside the hosts, such as a judge, is reached by all of them."""
        return f"{self._network}.1"

    def on_head(self) -> list[str]:
        """The words before a command that is to run on the head's host."""
        return ["ip", "netns", "exec", self._names[0]]

    def start(self) -> None:
        """Lays the cables and starts the cluster."""
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.bridge_address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for number, name in enumerate(self._names):
            _ip("netns", "add", name)
            _ip("link", "add", self._cable(number), "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", self._cable(number), "master", self._bridge, "up")
            _ip("-n", name, "address", "add", f"{self._address_of(number)}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")
        head = ["--head", f"--port={_PORT}", "--num-cpus=0", "--include-dashboard=false"]
        self._ray(0, [*head, f"--temp-dir={self._scratch}", f"--system-config={self._system_config}"])
        self._wait_for_raylet(0)
        # One after the other: nodes that share a disk would take the same names for their sockets.
        for number in range(1, len(self._names)):
            self._start_node(number)
            self._wait_for_raylet(number)

    def _start_node(self, number: int) -> None:
        self._ray(number, [f"--address={self.address}", f"--num-cpus={CPUS_PER_NODE}"])

    def _ray(self, number: int, words: Sequence[str]) -> None:
        program = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
        command = ["ip", "netns", "exec", self._names[number], sys.executable, "-c", program, "start", "--block"]
        place = [f"--node-ip-address={self._address_of(number)}", "--object-store-memory=157286400"]
        with (self._scratch / f"host{number}.txt").open("ab") as log:
            self._nodes[number] = subprocess.Popen(
                [*command, *place, "--min-worker-port=0", "--max-worker-port=0", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "RAY_TMPDIR": str(self._scratch), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def _wait_for_raylet(self, number: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not any("raylet/raylet" in " ".join(each.cmdline()) for each in self._processes(number)):
            assert self._nodes[number].poll() is None, (self._scratch / f"host{number}.txt").read_text()
            assert time.monotonic() < deadline, f"host {number} did not start"
            time.sleep(0.2)
        time.sleep(2.0)

    def keep_up(self) -> None:
        """Starts nodes again that have ended, as a supervisor does."""
        for number, process in list(self._nodes.items()):
            if number and process.poll() is not None:
                self._end(process)
                self._start_node(number)
                self.restarts += 1

    def host_of(self, title: str) -> int | None:
        """The number of a host with a process whose title begins so; None while there is none."""
        for number in range(1, len(self._names)):
            if any(" ".join(each.cmdline()).startswith(title) for each in self._processes(number)):
                return number
        return None

    def _processes(self, number: int) -> Iterator[psutil.Process]:
        with suppress(psutil.Error):
            for process in psutil.Process(self._nodes[number].pid).children(recursive=True):
                with suppress(psutil.Error):
                    process.cmdline()
                    yield process

    def cut_off(self, number: int) -> None:
        """Pulls the cable of a host: nothing comes or goes, and no connection is closed."""
        _ip("link", "set", self._cable(number), "down")

    def connect(self, number: int) -> None:
        """Puts the cable back."""
        _ip("link", "set", self._cable(number), "up")

    def close(self) -> None:
        """Ends the processes, the hosts and the bridge."""
        for process in self._nodes.values():
            self._end(process)
        for name in self._names:
            for pid in _ip("netns", "pids", name, check=False).stdout.split():
                with suppress(psutil.Error):
                    psutil.Process(int(pid)).kill()
            _ip("netns", "del", name, check=False)
        _ip("link", "del", self._bridge, check=False)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # The group keeps its number until its leader is waited for, so that no other process is met.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _cable(self, number: int) -> str:
        return f"{self._names[number]}c"

    def _address_of(self, number: int) -> str:
        return f"{self._network}.{10 + number}"


@contextmanager
def running_hosts(nodes: int, system_config: str) -> Iterator[Hosts]:
    """Hosts with a Ray cluster on them for the time of the context."""
    hosts = Hosts(nodes, system_config)
    try:
        hosts.start()
        yield hosts
    finally:
        hosts.close()
