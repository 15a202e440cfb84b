"""The demo's job, submitted to a running cluster of three nodes that asks for a token."""

from __future__ import annotations

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
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.driver import REPOSITORY, small_loop
from vp_ray.storage import RunFolder

RAY = str(Path(sys.executable).with_name("ray"))
TOKEN = secrets.token_hex(32)
_START_SECONDS = 120.0


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def environment(scratch: Path) -> dict[str, str]:
    own = {"RAY_TMPDIR": str(scratch), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    # Jobs take the `python` on the cluster's path.
    own["PATH"] = f"{Path(RAY).parent}:{os.environ['PATH']}"
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own


def started(stack: ExitStack, scratch: Path, name: str, **options: object) -> subprocess.Popen[bytes]:
    """`ray start --block` in a session of its own, which is ended with the stack."""
    words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    log = stack.enter_context((scratch / f"{name}.txt").open("wb"))
    node = subprocess.Popen(
        [RAY, "start", "--block", *(("--head",) if name == "head" else ()), *words],
        env=environment(scratch),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    stack.callback(ended, node)
    return node


def ended(node: subprocess.Popen[bytes]) -> None:
    """`ray start --block` ends its processes when it is told to end."""
    node.send_signal(signal.SIGTERM)
    try:
        node.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture(scope="module")
def dashboard() -> Iterator[tuple[str, Path]]:
    """The address on loopback of the dashboard of a head without work on it and two nodes, and the head's folder."""
    port, dashboard_port, agent_port, client_port = free_ports(4)
    scratch = Path(tempfile.mkdtemp(prefix="vph", dir="/tmp"))
    address = f"http://127.0.0.1:{dashboard_port}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        head = started(
            stack,
            scratch,
            "head",
            port=port,
            dashboard_port=dashboard_port,
            dashboard_agent_listen_port=agent_port,
            ray_client_server_port=client_port,
            dashboard_host="127.0.0.1",
            node_ip_address="127.0.0.1",
            temp_dir=scratch,
            num_cpus=0,
        )
        deadline = time.monotonic() + _START_SECONDS
        while (joined := gcs_address(scratch)) is None or not answers(f"{address}/api/version"):
            assert head.poll() is None, said_by(scratch)
            assert time.monotonic() < deadline, said_by(scratch)
            time.sleep(0.2)
        for name in ("b", "c"):
            # Nodes that share a folder, as no real ones do, would delete each other's copies of the job's files.
            started(stack, scratch, name, address=joined, num_cpus=4, temp_dir=scratch / name)
        yield address, scratch


def gcs_address(scratch: Path) -> str | None:
    """Where nodes join, once the head tells it."""
    # It colours words in the middle of the line.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", (scratch / "head.txt").read_text())
    found = re.search(r"ray start --address='([^']+)'", plain)
    return None if found is None else found[1]


def said_by(scratch: Path) -> str:
    """What the head node and its dashboard wrote, the end of each."""
    files = [scratch / "head.txt", *sorted(scratch.glob("session_latest/logs/dashboard*"))]
    return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def answers(url: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def submit(address: str, scratch: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ["--address", address, "--working-dir", str(REPOSITORY), "--", sys.executable, "-m", "vp_ray", *arguments]
    return subprocess.run(
        [RAY, "job", "submit", *words],
        cwd=scratch,
        env=environment(scratch),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def submit_by_us(address: str, scratch: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`vp-ray submit`, with the arguments of `vp-ray run`."""
    words = ["submit", *arguments[1:], "--cluster", address]
    return subprocess.run(
        [sys.executable, "-m", "vp_ray", *words],
        cwd=REPOSITORY,
        env=environment(scratch),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_a_submitted_job_works_in_the_cluster_and_one_submitted_again_goes_on(
    dashboard: tuple[str, Path], tmp_path: Path
) -> None:
    address, scratch = dashboard
    arguments = small_loop(tmp_path / "run")
    first = submit(address, scratch, *arguments, "--until", "generate")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "generate finished in" in first.stdout
    again = submit_by_us(address, scratch, *arguments, "--until", "preferences")
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(rf"raysubmit_\w+ works on {tmp_path}/run", again.stdout)
    assert "generate was finished" in again.stdout
    assert re.search(r"annotate\s+24 scored", again.stdout)
    run = RunFolder.at(tmp_path / "run")
    assert run.stage("preferences").finished().rows["preferences"] > 0
    # The cluster's nodes made the images: no second cluster was started for the job.
    assert len(list(scratch.glob("session_2*"))) == 1


def test_a_submitted_job_that_fails_says_why(dashboard: tuple[str, Path], tmp_path: Path) -> None:
    address, scratch = dashboard
    arguments = small_loop(tmp_path / "run")
    failed = submit(address, scratch, *arguments, "--set", "rl.epoch=3")
    assert failed.returncode != 0
    assert "there is no key 'rl.epoch' (did you mean 'epochs'?)" in failed.stdout + failed.stderr
    # Ours finds that out before it submits anything, and what only the cluster can know from the job's output.
    failed = submit_by_us(address, scratch, *arguments, "--set", "rl.epoch=3")
    assert failed.returncode == 2
    assert "there is no key 'rl.epoch'" in failed.stderr
    failed = submit_by_us(address, scratch, *arguments, "--set", "generate.generators.0.source=/no/such/directory")
    assert failed.returncode == 1
    assert "the model 'weak' is neither a directory nor on the hub" in failed.stdout


def test_what_cannot_be_submitted_is_told_in_a_sentence(dashboard: tuple[str, Path], tmp_path: Path) -> None:
    address, scratch = dashboard
    refused = submit_by_us(address, scratch, *small_loop(Path("runs/demo")))
    assert refused.returncode == 2
    assert "'runs/demo' would lie in the job's own folder on the cluster" in refused.stderr
    without_token = {**environment(scratch), "RAY_AUTH_TOKEN": "0" * 64}
    words = [sys.executable, "-m", "vp_ray", "submit", *small_loop(tmp_path)[1:], "--cluster", address]
    refused = subprocess.run(words, cwd=REPOSITORY, env=without_token, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "its token in RAY_AUTH_TOKEN" in refused.stderr
    assert "Traceback" not in refused.stderr
