"""A local cluster listens on loopback only, and a cluster that does not answer is told within seconds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
from vp_ray.errors import ClusterError

ROOT = Path(__file__).parents[2]

_LISTENERS = """
import os, psutil, ray
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
with connect(RaySettings(logical_cpus=5)):
    mine = {psutil.Process()} | set(psutil.Process().children(recursive=True))
    sockets = [socket for process in mine for socket in process.net_connections("tcp")]
    addresses = {each.laddr.ip.removeprefix("::ffff:") for each in sockets if each.status == psutil.CONN_LISTEN}
    print(sorted(addresses), ray.cluster_resources()["CPU"], ray.get(ray.remote(lambda: 7).remote()))
print(ray.is_initialized())
"""


def test_a_local_cluster_listens_on_loopback_and_ends_with_the_context() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _LISTENERS], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert told.returncode == 0, told.stderr
    addresses, ended = told.stdout.strip().splitlines()[-2:]
    assert addresses == "['127.0.0.1'] 5.0 7"
    assert ended == "False"


_DASHBOARD = """
import json, urllib.request
from pathlib import Path
import ray
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings
with connect(RaySettings(logical_cpus=4, dashboard=True)):
    token = (Path.home() / ".ray" / "auth_token").read_text().strip()
    address = f"http://{ray._private.worker._global_node.webui_url}/api/serve/applications/"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    print(json.load(urllib.request.urlopen(request, timeout=60))["applications"])
"""


def test_the_pages_of_a_local_dashboard_that_ask_the_cluster_have_their_answer() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _DASHBOARD], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "{}"


_SLOW_START = """
import threading, time
import psutil, ray
from vp_ray.distributed.cluster import connect
from vp_ray.distributed.config import RaySettings

def children(name):
    return [child for child in psutil.Process().children() if child.name() == name]

def stop_the_first():
    while not children("raylet"):
        time.sleep(0.01)
    stopped.extend(children("raylet"))
    stopped[0].suspend()

stopped = []
threading.Thread(target=stop_the_first, daemon=True).start()
with connect(RaySettings(logical_cpus=4)):
    raylets = children("raylet")
    print(stopped[0] in raylets, len(raylets), len(children("gcs_server")), ray.get(ray.remote(lambda: 7).remote()))
"""


@pytest.mark.chaos  # Ray waits for half a minute before it gives the node up
def test_a_local_cluster_that_starts_too_slowly_is_started_again_and_leaves_nothing() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _SLOW_START], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "False 1 1 7"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_a_cluster_that_does_not_answer_is_told_at_once(address: str) -> None:
    address = address.format(port=free_port())
    started = time.monotonic()
    with pytest.raises(ClusterError, match="no Ray cluster answers") as caught, connect(RaySettings(address=address)):
        pass
    assert time.monotonic() - started < 15
    assert address in str(caught.value)


def test_a_submitted_job_takes_its_clusters_address(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setitem(os.environ, "RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=address), connect(RaySettings()):
        pass


def test_something_else_that_listens_there_is_told_in_bounded_time() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ClusterError, match="no Ray cluster"), connect(RaySettings(address=address)):
            pass
        assert time.monotonic() - started < 60
