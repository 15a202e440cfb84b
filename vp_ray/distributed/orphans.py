"""Applications of Serve that belong to a driver: Serve keeps them, GPUs and routes, when the driver is killed.

Their names say whose they are. A run deletes those of drivers that are gone at its start, and again before it serves
something itself, since other drivers may have died meanwhile and hold the GPUs that it wants.
"""

from __future__ import annotations

import re
import uuid
from typing import Final, Literal

import ray
from ray import serve
from ray._private.worker import global_worker

from vp_ray.distributed.serving import remove_app

_OWN_APP: Final = re.compile(r"(?:vp-score|open-judge)-([0-9a-f]+)-[0-9a-f]{8}")


def own_app_name(kind: Literal["vp-score", "open-judge"]) -> str:
    """A new name for an application that ends with this driver."""
    return f"{kind}-{ray.get_runtime_context().get_job_id()}-{uuid.uuid4().hex[:8]}"


def remove_orphans() -> None:
    """Deletes the applications of drivers that are gone, where Serve runs."""
    named = {name: match[1] for name in serve.status().applications if (match := _OWN_APP.fullmatch(name))}
    if not named:
        return
    jobs = global_worker.gcs_client.get_all_job_info(
        skip_submission_job_info_field=True, skip_is_running_tasks_field=True
    )
    living = {job_id.hex() for job_id, job in jobs.items() if not job.is_dead}
    for name, job in named.items():
        if job not in living:
            remove_app(name)
