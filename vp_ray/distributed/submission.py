"""Runs of a job file on a cluster that is somewhere else: submitted, followed, and taken up again."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import ray
from ray.job_submission import JobStatus, JobSubmissionClient

import vp_ray
from vp_ray.errors import ClusterError

_RUN: Final = "vp_ray_run"
"""The key of a submission's metadata that names its run directory."""
_ENDED: Final = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED}


def submit(
    job: Path,
    run: str,
    arguments: Sequence[str],
    cluster: str,
    ship_code: bool = True,
    say: Callable[[str], None] = print,
) -> tuple[JobSubmissionClient, str]:
    """Submits `vp-ray run JOB ARGUMENTS` to the cluster's dashboard and returns the client and the submission's id.

    The job file travels; with `ship_code` this package does too, in place of the one that is installed there. Nothing
    is put into the environment: keys come from the cluster's own secret store. Raises `ClusterError` when the cluster
    does not answer, has another version of Ray, or works on this run already.
    """
    client = _client(cluster)
    for other in client.list_jobs():
        if (other.metadata or {}).get(_RUN) == run and other.status not in _ENDED:
            raise ClusterError(
                f"the job {other.submission_id} works on the run {run} already",
                f"Follow it by `ray job logs --follow {other.submission_id}`, or stop it first.",
                cluster,
            )
    with tempfile.TemporaryDirectory(prefix="vp-submit-") as folder:
        shutil.copyfile(job, Path(folder) / job.name)
        environment: dict[str, Any] = {"working_dir": folder}
        if ship_code:
            environment["py_modules"] = [str(Path(vp_ray.__file__).parent)]
        words = ["python", "-m", "vp_ray", "run", job.name, *arguments]
        try:
            found = client.submit_job(entrypoint=shlex.join(words), runtime_env=environment, metadata={_RUN: run})
        except RuntimeError as error:
            raise ClusterError(
                f"the job was not taken ({_first_line(error)})", "Look at the cluster.", cluster
            ) from error
    say(f"{found} works on {run}")
    return client, found


def follow(client: JobSubmissionClient, submission: str, write: Callable[[str], None]) -> bool:
    """Writes the job's output until it ends; whether it succeeded."""

    async def lines() -> None:
        async for text in client.tail_job_logs(submission):
            write(text)

    asyncio.run(lines())
    return client.get_job_status(submission) == JobStatus.SUCCEEDED


def _client(cluster: str) -> JobSubmissionClient:
    try:
        client = JobSubmissionClient(cluster)
        version = client._do_request("GET", "/api/version").json().get("ray_version")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"the cluster's dashboard cannot be used ({_first_line(error)})",
            "Give its address, such as http://localhost:8265 behind `ray dashboard`, and its token in RAY_AUTH_TOKEN.",
            cluster,
        ) from error
    if version is not None and version != ray.__version__:
        raise ClusterError(
            f"the cluster has Ray {version}, this machine {ray.__version__}",
            "Install the same version on both; see constraints.txt.",
            cluster,
        )
    return client


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
