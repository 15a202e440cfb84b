"""What this machine has and lacks for a run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vp_ray.pipeline.job_checks import Check, job_checks

if TYPE_CHECKING:
    from vp_ray.pipeline.settings import JobSettings

_PACKAGES: Final = ("ray", "torch", "diffusers", "transformers", "peft", "deepspeed", "openai", "pyarrow")
_DISK_GB: Final = 5
_SHARED_MEMORY_GB: Final = 1
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Ray keeps its objects on Linux  # nosec B108


def checks(job: JobSettings | None = None) -> Iterator[Check]:
    """Each requirement, of a job where one is given, with what was found and, where it lacks, the remedy."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    yield Check("Python", (3, 11) <= sys.version_info < (3, 13), python, "Use Python 3.11 or 3.12.")
    for package in _PACKAGES:
        try:
            yield Check(package, True, version(package))
        except PackageNotFoundError:
            yield Check(package, False, "not installed", "Run `make test` or `pip install -c constraints.txt -e .`.")
    weights = Path(__file__).parents[1] / "shapeworld" / "weights"
    for name in ("weak", "strong", "blip"):
        there = (weights / name).is_dir()
        yield Check(f"embedded model {name}", there, "there" if there else "missing", "Run `vp-ray shapeworld train`.")
    yield Check("processor cores", True, str(os.cpu_count()))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Check(
        "free disk", free >= _DISK_GB, f"{free:.0f} GiB", f"Free at least {_DISK_GB} GiB, or set `run` elsewhere."
    )
    if _SHARED_MEMORY.is_dir():
        shared = shutil.disk_usage(_SHARED_MEMORY).total / 2**30
        yield Check(
            "shared memory", shared >= _SHARED_MEMORY_GB, f"{shared:.1f} GiB", "Start the container with --shm-size."
        )
    if job is not None:
        yield from job_checks(job, _gpu_count)
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield Check("GPUs", True, ", ".join(gpus) or "none: everything runs on the CPU")


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()
