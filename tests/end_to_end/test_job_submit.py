"""The demo's job, submitted to a running cluster of three nodes that asks for a token, with its run on S3.

The whole loop goes through it, and ends as the same loop on one machine and its disk. Meanwhile a real Prometheus
scrapes the nodes, and the Grafana dashboard's queries are asked of it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Loop
from tests.end_to_end.driver import REPOSITORY, small_loop
from tests.end_to_end.ray_nodes import RAY, Nodes, free_ports, head_node
from tests.end_to_end.watching import PROGRAM, Watch, prometheus, queries_of
from tests.small_runs import bits_of
from vp_ray.locking import LOCK
from vp_ray.storage import RunFolder

# The first test waits for two submissions, and for the undisturbed loop.
pytestmark = pytest.mark.timeout(1500)

DASHBOARD = json.loads((REPOSITORY / "clusters" / "grafana" / "vp_ray.json").read_text())
NOT_HERE = {
    "cost_usd": "the embedded judge costs nothing",
    'outcome=~"rate|busy"': "nothing was refused",
    "requests_per_minute_allowed": "the judge has no limit",
    "budget_left_usd": "no budget was set",
    "node_gpus_utilization": "no GPU",
}
"""Words of queries that find nothing after such a loop."""


@pytest.fixture(scope="module")
def nodes(bucket: str) -> Iterator[Nodes]:
    """A head without work on it and two nodes."""
    with head_node(*free_ports(1), num_cpus=0) as found:
        for name in ("b", "c"):
            found.join(name, num_cpus=4)
        yield found


@pytest.fixture(scope="module")
def watch(nodes: Nodes) -> Iterator[Watch | None]:
    """None where there is no Prometheus."""
    with prometheus(nodes) if PROGRAM else nullcontext() as found:
        yield found


def submit(nodes: Nodes, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ["--working-dir", str(REPOSITORY), "--", sys.executable, "-m", "vp_ray", *arguments]
    return nodes.run(RAY, "job", "submit", "--address", nodes.dashboard, *words, directory=nodes.scratch)


def submit_by_us(nodes: Nodes, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`vp-ray submit`, with the arguments of `vp-ray run`."""
    words = [sys.executable, "-m", "vp_ray", "submit", *arguments[1:], "--cluster", nodes.dashboard]
    return nodes.run(*words, **changes)


@pytest.fixture(scope="module")
def submitted(nodes: Nodes, bucket: str, watch: Watch | None) -> RunFolder:
    """The run of a job that was submitted twice: until its images were made, and to its end."""
    run = RunFolder.at(f"{bucket}/run")
    first = submit(nodes, *small_loop(run.uri), "--until", "generate")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "generate finished in" in first.stdout
    again = submit_by_us(nodes, *small_loop(run.uri))
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(rf"raysubmit_\w+ works on {run.uri}", again.stdout)
    assert "generate was finished" in again.stdout
    assert re.search(r"annotate\s+24 scored", again.stdout)
    assert "Tuned against base" in again.stdout
    return run


def test_a_submitted_job_works_in_the_cluster_on_s3_and_one_submitted_again_goes_on(
    nodes: Nodes, submitted: RunFolder
) -> None:
    assert submitted.stage("preferences").finished().rows["preferences"] > 0
    assert submitted.stage("report").finished().rows["problems"] == 0
    assert not submitted.exists(LOCK)
    # The cluster's nodes did the work: no second cluster was started for the job.
    assert len(list(nodes.scratch.glob("session_2*"))) == 1


def test_the_whole_loop_on_s3_is_that_of_one_machine_and_its_disk(
    submitted: RunFolder, loop: Loop, tmp_path: Path
) -> None:
    for stage, name in (("reward", "checkpoint/model.safetensors"), ("rl", "adapter/pytorch_lora_weights.safetensors")):
        copy = tmp_path / stage
        copy.write_bytes(submitted.stage(stage).read_bytes(name))
        assert bits_of(copy) == bits_of(loop.path / stage / name)

    def of(run: RunFolder) -> list[Any]:
        images = (run.stage("generate") / "images").read_table(".").sort_by("image_id").to_pylist()
        preferences = run.stage("preferences").read_table("preferences.parquet").to_pylist()
        return [images, preferences, run.stage("evaluate").read_table("comparison.parquet").to_pylist()]

    assert of(submitted) == of(loop.run)


@pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus (Debian's package `prometheus`)")
def test_every_panel_of_the_dashboard_has_something_to_show(submitted: RunFolder, watch: Watch | None) -> None:
    assert watch is not None
    assert watch.targets_up() >= 3
    panels = queries_of(DASHBOARD, submitted.uri.rpartition("/")[2])
    asked = [(title, query) for title, queries in panels.items() for query in queries]
    expected = [one for one in asked if not any(words in one[1] for words in NOT_HERE)]
    assert len(expected) > 30
    assert [one for one in expected if not watch.series(one[1])] == []


def test_a_submitted_job_that_fails_says_why(nodes: Nodes, bucket: str) -> None:
    arguments = small_loop(f"{bucket}/failing")
    failed = submit(nodes, *arguments, "--set", "rl.epoch=3")
    assert failed.returncode != 0
    assert "there is no key 'rl.epoch' (did you mean 'epochs'?)" in failed.stdout + failed.stderr
    # Ours finds that out before it submits anything, and what only the cluster can know from the job's output.
    failed = submit_by_us(nodes, *arguments, "--set", "rl.epoch=3")
    assert failed.returncode == 2
    assert "there is no key 'rl.epoch'" in failed.stderr
    failed = submit_by_us(nodes, *arguments, "--set", "generate.generators.0.source=/no/such/directory")
    assert failed.returncode == 1
    assert "the model 'weak' is neither a directory nor on the hub" in failed.stdout


def test_what_cannot_be_submitted_is_told_in_a_sentence(nodes: Nodes, tmp_path: Path) -> None:
    refused = submit_by_us(nodes, *small_loop(Path("runs/demo")))
    assert refused.returncode == 2
    assert "'runs/demo' would lie in the job's own folder on the cluster" in refused.stderr
    refused = submit_by_us(nodes, *small_loop(tmp_path), RAY_AUTH_TOKEN="0" * 64)
    assert refused.returncode == 2
    assert "its token in RAY_AUTH_TOKEN" in refused.stderr
    assert "Traceback" not in refused.stderr
