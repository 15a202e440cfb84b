"""Generation on an autoscaling cluster: no GPU node before, two while there is work for two, and none afterwards."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.ray_nodes import RAY, Nodes, asked, free_ports, head_node
from vp_ray.storage import RunFolder

pytestmark = pytest.mark.timeout(600)

HEAD_ID = "f" * 51 + "00000"
IDLE_MINUTES = 0.2
COMMANDS = (
    "initialization_",
    "setup_",
    "head_setup_",
    "worker_setup_",
    "head_start_ray_",
    "worker_start_ray_",
)
"""Kinds that a cluster file must have, and that fake machines do not run."""
GONE_SECONDS = 120
PROMPTS = 12
LABEL = "vp-ray/pool"


def configuration(port: int) -> dict[str, object]:
    """A cluster file whose machines are Ray's fake ones: processes on this host that say that they have a GPU."""
    return {
        "cluster_name": "autoscaling",
        "max_workers": 4,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 2, "GPU": 1},
                "labels": {LABEL: "generate"},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        **{f"{kind}commands": [] for kind in COMMANDS},
    }


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    (port,) = free_ports(1)
    file = tmp_path / "autoscaling.json"
    file.write_text(json.dumps(configuration(port)))
    more = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_NODE_TYPE_NAME": "ray.head.default",
    }
    ports = {"min_worker_port": 0, "max_worker_port": 0}
    with head_node(port, more=more, num_cpus=1, num_gpus=0, autoscaling_config=file, **ports) as found:
        yield found


def gpu_nodes(nodes: Nodes) -> int:
    """How many nodes with a GPU the cluster has now."""
    listed = asked(f"{nodes.dashboard}/api/v0/nodes?detail=1&limit=100")["data"]["result"]["result"]
    return sum(node["state"] == "ALIVE" and node["resources_total"].get("GPU", 0) > 0 for node in listed)


def job(run: RunFolder) -> dict[str, object]:
    """Images by a pool of two actors, each with a GPU on a node for generation."""
    pool = {"gpus_per_actor": 1, "min_actors": 2, "max_actors": 2, "labels": {LABEL: "generate"}}
    # The GPU is a fake.
    weak = {"name": "weak", "source": "embedded:weak", "device": "cpu", "steps": 20, "batch_size": 4, "pool": pool}
    return {
        "run": run.uri,
        "prompts": {"sources": [{"kind": "shapeworld", "counts": {"train": PROMPTS}}]},
        "generate": {"batches_per_shard": 1, "generators": [{**weak, "images_per_prompt": 2}]},
    }


def test_gpu_nodes_come_with_the_work_of_generation_and_go_after_it(nodes: Nodes, tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path / "run")
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job(run)))
    assert gpu_nodes(nodes) == 0
    words = [RAY, "job", "submit", "--address", nodes.dashboard, "--", sys.executable, "-m", "vp_ray", "run", str(file)]
    with ThreadPoolExecutor() as pool:
        submitted = pool.submit(nodes.run, *words, directory=nodes.scratch)
        counts = [gpu_nodes(nodes)]
        while not submitted.done():
            time.sleep(0.5)
            counts.append(gpu_nodes(nodes))
    done = submitted.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(counts) == 2, counts
    assert run.stage("generate").finished().rows["made"] == 2 * PROMPTS
    deadline = time.monotonic() + GONE_SECONDS
    while counts[-1] and time.monotonic() < deadline:
        time.sleep(1)
        counts.append(gpu_nodes(nodes))
    assert counts[-1] == 0, counts
