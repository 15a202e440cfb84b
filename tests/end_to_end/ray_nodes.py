"""Nodes of a Ray cluster as `ray start` makes them, on loopback behind a token, and what is submitted to them."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.end_to_end.driver import REPOSITORY

RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = secrets.token_hex(32)
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Nodes:
    """A head, whose dashboard listens on loopback, and the nodes that joined it."""

    scratch: Path
    dashboard: str
    gcs: str
    stack: ExitStack

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the nodes' processes and of those who talk to them."""
        own = {
            "RAY_TMPDIR": str(self.scratch),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "OMP_NUM_THREADS": "1",
        }
        # Jobs take the `python` on the cluster's path.
        own["PATH"] = f"{Path(RAY).parent}:{os.environ['PATH']}"
        return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own

    def join(self, name: str, **options: object) -> None:
        """Starts another node."""
        # Nodes that share a folder, as no real ones do, would delete each other's copies of the job's files.
        _started(self, name, {}, address=self.gcs, temp_dir=self.scratch / name, **options)

    def run(self, *command: str, directory: Path = REPOSITORY, **changes: str) -> subprocess.CompletedProcess[str]:
        """A command of ours or of Ray's that talks to the cluster, at its end."""
        environment = {**self.environment, **changes}
        return subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=1200, check=False
        )

    def processes(self) -> list[psutil.Process]:
        """All processes of the nodes and of what runs on them."""
        found = []
        for process in psutil.process_iter(["pid", "status"]):
            with suppress(psutil.Error):
                if process.environ().get("RAY_TMPDIR") == str(self.scratch) and process.pid != os.getpid():
                    found.append(process)
        return found


@contextmanager
def head_node(port: int, more: Mapping[str, str] | None = None, **options: object) -> Iterator[Nodes]:
    """A head node and, in the end, the end of all nodes; `options` are those of `ray start`, and `more` of its
    environment is the head's alone."""
    dashboard_port, agent_port, client_port = free_ports(3)
    scratch = Path(tempfile.mkdtemp(prefix="vph", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        nodes = Nodes(scratch, f"http://127.0.0.1:{dashboard_port}", f"127.0.0.1:{port}", stack)
        stack.callback(_end_all, nodes)
        head = _started(
            nodes,
            "head",
            more or {},
            port=port,
            dashboard_port=dashboard_port,
            dashboard_agent_listen_port=agent_port,
            ray_client_server_port=client_port,
            dashboard_host="127.0.0.1",
            node_ip_address="127.0.0.1",
            temp_dir=scratch,
            **options,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not (_has_started(scratch) and answers(f"{nodes.dashboard}/api/version")):
            assert head.poll() is None, said_by(scratch)
            assert time.monotonic() < deadline, said_by(scratch)
            time.sleep(0.2)
        yield nodes


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _started(nodes: Nodes, name: str, more: Mapping[str, str], **options: object) -> subprocess.Popen[bytes]:
    """`ray start --block` in a session of its own, which is ended with the stack."""
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    log = nodes.stack.enter_context((nodes.scratch / f"{name}.txt").open("wb"))
    node = subprocess.Popen(
        [RAY, "start", "--block", *(("--head",) if name == "head" else ()), *words],
        env={**nodes.environment, **more},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    nodes.stack.callback(_ended, node)
    return node


def _ended(node: subprocess.Popen[bytes]) -> None:
    """`ray start --block` ends its processes when it is told to end."""
    node.send_signal(signal.SIGTERM)
    try:
        node.wait(10)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def _end_all(nodes: Nodes) -> None:
    for process in nodes.processes():
        with suppress(psutil.Error):
            process.kill()


def _has_started(scratch: Path) -> bool:
    # It colours words in the middle of the line.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", (scratch / "head.txt").read_text())
    return "ray start --address=" in plain


def said_by(scratch: Path) -> str:
    """What the head node and its dashboard wrote, the end of each."""
    files = [scratch / "head.txt", *sorted(scratch.glob("session_latest/logs/dashboard*"))]
    return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def answers(url: str) -> bool:
    """Whether the dashboard answers who has the token."""
    try:
        return asked(url) is not None
    except (urllib.error.URLError, OSError):
        return False


def asked(url: str) -> Any:
    """What the dashboard answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
        return json.load(reply)
