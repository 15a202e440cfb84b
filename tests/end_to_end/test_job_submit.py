"""The demo's job, submitted to a running cluster of three nodes that asks for a token, with its run on S3."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.driver import REPOSITORY, small_loop
from tests.end_to_end.ray_nodes import RAY, Nodes, free_ports, head_node
from vp_ray.locking import LOCK
from vp_ray.storage import RunFolder

# The first test waits for two submissions.
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def nodes(bucket: str) -> Iterator[Nodes]:
    """A head without work on it and two nodes."""
    with head_node(*free_ports(1), num_cpus=0) as found:
        for name in ("b", "c"):
            found.join(name, num_cpus=4)
        yield found


def submit(nodes: Nodes, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ["--working-dir", str(REPOSITORY), "--", sys.executable, "-m", "vp_ray", *arguments]
    return nodes.run(RAY, "job", "submit", "--address", nodes.dashboard, *words, directory=nodes.scratch)


def submit_by_us(nodes: Nodes, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`vp-ray submit`, with the arguments of `vp-ray run`."""
    words = [sys.executable, "-m", "vp_ray", "submit", *arguments[1:], "--cluster", nodes.dashboard]
    return nodes.run(*words, **changes)


def test_a_submitted_job_works_in_the_cluster_on_s3_and_one_submitted_again_goes_on(nodes: Nodes, bucket: str) -> None:
    run = RunFolder.at(f"{bucket}/run")
    first = submit(nodes, *small_loop(run.uri), "--until", "generate")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "generate finished in" in first.stdout
    again = submit_by_us(nodes, *small_loop(run.uri), "--until", "preferences")
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(rf"raysubmit_\w+ works on {run.uri}", again.stdout)
    assert "generate was finished" in again.stdout
    assert re.search(r"annotate\s+24 scored", again.stdout)
    assert run.stage("preferences").finished().rows["preferences"] > 0
    assert not run.exists(LOCK)
    # The cluster's nodes did the work: no second cluster was started for the job.
    assert len(list(nodes.scratch.glob("session_2*"))) == 1


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
