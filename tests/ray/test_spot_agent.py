"""A spot node whose cloud announces its end gets no new work."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.unit.distributed.test_spot import Metadata


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    nodes.add_node(num_cpus=2, labels={"ray.io/market-type": "spot"})
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
def where() -> str:
    time.sleep(0.05)
    return str(ray.get_runtime_context().get_node_id())


def test_the_agent_has_its_node_drained_when_the_notice_comes(cluster: Cluster) -> None:
    (spot,) = cluster.worker_nodes
    assert spot.node_id in set(ray.get([where.remote() for _ in range(12)]))
    Metadata.notice = False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words = [
        "spot-agent",
        "--cloud",
        "aws",
        "--ray",
        cluster.address,
        "--node-id",
        spot.node_id,
        "--every-seconds",
        "0.2",
    ]
    agent = subprocess.Popen(
        [sys.executable, "-m", "vp_ray", *words, "--metadata", f"http://127.0.0.1:{server.server_port}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(3)
        assert agent.poll() is None, "the agent did not wait for the notice"
        Metadata.notice = True
        said, _ = agent.communicate(timeout=60)
        assert agent.returncode == 0
        assert "aws takes this machine in" in said
        assert set(ray.get([where.remote() for _ in range(12)])) == {cluster.head_node.node_id}
    finally:
        agent.kill()
        agent.wait()
        server.shutdown()
        server.server_close()


def test_a_pod_that_is_being_stopped_has_its_node_drained_at_once(cluster: Cluster) -> None:
    (spot,) = cluster.worker_nodes
    words = ["spot-agent", "--within", "50", "--ray", cluster.address, "--node-id", spot.node_id]
    done = subprocess.run([sys.executable, "-m", "vp_ray", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "goes in 50 s" in done.stdout
    assert set(ray.get([where.remote() for _ in range(12)])) == {cluster.head_node.node_id}
