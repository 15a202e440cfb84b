"""The demo's job, submitted to a running cluster of three nodes that asks for a token, with its run on S3."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load

from tests.end_to_end.conftest import Loop
from tests.end_to_end.driver import REPOSITORY, small_loop
from tests.end_to_end.ray_nodes import RAY, Nodes, free_ports, head_node
from vp_ray.judging.ledger import ledger_rows
from vp_ray.locking import LOCK
from vp_ray.storage import MANIFEST, RunFolder

# The first test waits for two submissions, and for the undisturbed run that they are held to.
pytestmark = pytest.mark.timeout(1500)

ANSWERS_BEFORE_THE_KILL = 5

Submitted = tuple[RunFolder, list[str], subprocess.CompletedProcess[str]]


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


def drivers(nodes: Nodes, run: str) -> list[psutil.Process]:
    """The drivers on the cluster that work on the run."""
    found = []
    for process in nodes.processes():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "run" in words and f"run={run}" in words and "python" in words[0]:
                found.append(process)
    return found


@pytest.fixture(scope="module")
def submitted(nodes: Nodes, bucket: str) -> Submitted:
    """A run whose first driver was killed in the middle of annotation: its answers then, and the second submission."""
    run = RunFolder.at(f"{bucket}/run")
    words = [RAY, "job", "submit", "--no-wait", "--address", nodes.dashboard, "--working-dir", str(REPOSITORY), "--"]
    first = nodes.run(*words, sys.executable, "-m", "vp_ray", *small_loop(run.uri), directory=nodes.scratch)
    assert first.returncode == 0, first.stdout + first.stderr
    ledger = run.stage("annotate") / "ledger"
    deadline = time.monotonic() + 400
    while len(answers := [row["judgement_id"] for row in ledger_rows(ledger)]) < ANSWERS_BEFORE_THE_KILL:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for driver in drivers(nodes, run.uri):
        os.kill(driver.pid, signal.SIGKILL)
    assert not run.stage("annotate").exists(MANIFEST), "annotation was finished before the driver could be killed"
    assert run.exists(LOCK)
    return run, answers, submit_by_us(nodes, *small_loop(run.uri))


def test_a_run_on_s3_whose_driver_was_killed_is_submitted_again_and_goes_on_to_its_report(
    submitted: Submitted, nodes: Nodes
) -> None:
    run, _, again = submitted
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(rf"raysubmit_\w+ works on {run.uri}", again.stdout)
    for stage in ("prompts", "generate"):
        assert f"{stage} was finished" in again.stdout
    for stage in ("annotate", "preferences", "reward", "rl", "evaluate", "report"):
        assert f"{stage} finished in" in again.stdout
    assert b"<!doctype html>" in run.stage("report").read_bytes("index.html").lower()[:100]
    assert not run.exists(LOCK)
    # The cluster's nodes did the work: no second cluster was started for the job.
    assert len(list(nodes.scratch.glob("session_2*"))) == 1


def test_no_answer_is_asked_for_twice(submitted: Submitted) -> None:
    run, before, _ = submitted
    rows = Counter(row["judgement_id"] for row in ledger_rows(run.stage("annotate") / "ledger"))
    assert len(before) >= ANSWERS_BEFORE_THE_KILL
    assert {rows[name] for name in before} == {1}
    assert len(rows) == 24


def test_it_is_the_run_that_a_disk_and_one_machine_would_have_made(submitted: Submitted, loop: Loop) -> None:
    def tables(run: RunFolder) -> list[object]:
        judgements = run.stage("annotate").read_table("judgements.parquet").to_pylist()
        return [
            (run.stage("generate") / "images").read_table(".").sort_by("image_id").to_pylist(),
            [(row["judgement_id"], row["order"], row["status"], row["levels"]) for row in judgements],
            run.stage("preferences").read_table("preferences.parquet").to_pylist(),
            run.stage("evaluate").read_table("comparison.parquet").to_pylist(),
        ]

    run = submitted[0]
    for ours, undisturbed in zip(tables(run), tables(loop.run), strict=True):
        assert ours == undisturbed
    for place in ("reward/checkpoint/model.safetensors", "rl/adapter/pytorch_lora_weights.safetensors"):
        ours, theirs = (load(folder.read_bytes(place)) for folder in (run, loop.run))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


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
