"""What a job needs of this machine beside the package: keys, files, GPUs, extras, a place for the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vp_ray.config import Settings
from vp_ray.errors import StorageError
from vp_ray.storage import RunFolder

if TYPE_CHECKING:
    from vp_ray.pipeline.settings import JobSettings

_KEYS: Final = ("api_key_env", "token_env")
_GPUS: Final = ("gpus_per_actor", "gpus_per_worker", "gpus_per_replica")
_FILES: Final = ("path", "rubric", "guide", "comparisons")
_MODELS: Final = ("source", "generator", "backbone", "adapter", "vae", "refiner")
_TRACKERS: Final = {"tensorboard": "tensorboardX", "wandb": "wandb"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs."""

    name: str
    good: bool
    found: str
    remedy: str = ""


def job_checks(job: JobSettings, gpus: Callable[[], int]) -> Iterator[Check]:
    """What the job's settings name, with what was found; `gpus` counts those of this machine."""
    found = list(_walk("", job))
    yield _run_folder(job)
    for name in sorted({value for _, key, value in found if key in _KEYS and value}):
        there = bool(os.environ.get(name))
        yield Check(f"variable {name}", there, "set" if there else "not set", f"Set {name} on every node.")
    for place, key, value in found:
        if _is_file(key, value) and not Path(value).expanduser().exists():
            yield Check(place, False, f"{value} is not there", "Give the path of a file that is, see docs/settings.md.")
    if job.asks_open_judge:
        yield _package("vllm", "vllm", "or give the annotator's base_url")
    for tracker in job.rl.trackers if job.rl is not None else ():
        yield _package(_TRACKERS[tracker], tracker, f"or take {tracker} out of rl.trackers")
    wanted = [place for place, key, value in found if key in _GPUS and value]
    if wanted and job.ray.address is None and "RAY_ADDRESS" not in os.environ:
        count = gpus()
        remedy = "Submit it to a cluster with GPUs (docs/clusters.md), or set these to 0."
        yield Check(f"GPUs for {', '.join(wanted)}", count > 0, f"{count} on this machine", remedy)


def _walk(prefix: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """(dotted key, its last part, value) of every plain value inside settings."""
    items: list[tuple[str, Any]] = []
    if isinstance(value, Settings):
        fields = type(value).model_fields
        items = [(field.alias or name, getattr(value, name)) for name, field in fields.items()]
    elif isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, tuple):
        items = [(str(number), inner) for number, inner in enumerate(value)]
    for key, inner in items:
        yield from _walk(f"{prefix}.{key}" if prefix else key, inner)
    if not items and prefix:
        yield prefix, prefix.rpartition(".")[2], value


def _is_file(key: str, value: Any) -> bool:
    """Whether a value names a file or folder of this machine, and not a packaged name or a hub id."""
    if not isinstance(value, str) or "://" in value:
        return False
    if key == "path":
        return bool(value)
    looks_local = value.startswith(("/", "./", "../", "~")) or value.endswith((".yaml", ".yml", ".parquet"))
    return key in (*_FILES, *_MODELS) and looks_local


def _run_folder(job: JobSettings) -> Check:
    run = RunFolder.at(job.run)
    if run.is_local:
        parent = next(folder for folder in (run.local_path, *run.local_path.parents) if folder.exists())
        good = os.access(parent, os.W_OK)
        return Check(f"run {job.run}", good, "can be written" if good else "cannot be written", "Set `run` elsewhere.")
    try:
        run.filesystem()
    except StorageError as error:
        return Check(f"run {job.run}", False, error.problem, error.remedy)
    return Check(f"run {job.run}", True, "its storage is known")


def _package(package: str, extra: str, otherwise: str) -> Check:
    try:
        return Check(package, True, version(package))
    except PackageNotFoundError:
        remedy = f"Run `pip install 'vp-ray[{extra}]'` on every node, {otherwise}."
        return Check(package, False, "not installed", remedy)
