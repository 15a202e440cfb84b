"""Runs the stages of a job in order: what is finished is skipped, what was cut off goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vp_ray.errors import SettingsError, VpRayError, did_you_mean
from vp_ray.locking import locked
from vp_ray.logs import Origin, in_stage, working_for
from vp_ray.pipeline.board import Board
from vp_ray.pipeline.resources import EMBEDDED, Resources
from vp_ray.pipeline.settings import JobSettings
from vp_ray.pipeline.stages import STAGE_NAMES, STAGES, Stage
from vp_ray.storage import Manifest, RunFolder
from vp_ray.telemetry import noted_in, observed_by

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """A stage's manifest and whether it was there before."""

    manifest: Manifest
    skipped: bool


def chosen_stages(job: JobSettings, first: str | None = None, last: str | None = None) -> list[Stage]:
    """The stages that the job has a section for, from `first` to `last`; raises `SettingsError` for unknown names."""
    for name in (first, last):
        if name is not None and name not in STAGE_NAMES:
            near = did_you_mean(name, STAGE_NAMES)
            raise SettingsError(f"there is no stage '{name}'{near}", f"Stages are: {', '.join(STAGE_NAMES)}.")
        if name is not None and job.stage(name) is None:
            raise SettingsError(f"this job has no section '{name}'", "Add one, or choose another stage.")
    begin = STAGE_NAMES.index(first) if first else 0
    end = STAGE_NAMES.index(last) if last else len(STAGE_NAMES) - 1
    if begin > end:
        raise SettingsError(f"'{first}' comes after '{last}'", f"The order is: {', '.join(STAGE_NAMES)}.")
    return [stage for stage in STAGES[begin : end + 1] if job.stage(stage.name) is not None]


def recorded_settings(job: JobSettings, stage: Stage) -> dict[str, Any]:
    """What fixes a stage's result: its section, and the embedded judge's where it is asked."""
    settings = job.stage(stage.name)
    if settings is None:
        raise SettingsError(f"this job has no section '{stage.name}'", "Add one, or choose another stage.")
    values = settings.recorded()
    asked = job.models_of(stage.name)
    if job.judge is not None and any(model.base_url == EMBEDDED for model in asked):
        values["judge"] = job.judge.recorded()
    return values


def input_fingerprints(job: JobSettings, run: RunFolder, stage: Stage) -> dict[str, str]:
    """The fingerprints of the finished stages that this one reads; raises `StorageError` when one is missing."""
    inputs = (*stage.inputs, *stage.more_inputs(job.stage(stage.name)))
    needed = [name for name in inputs if job.stage(name) is not None]
    if stage.always_anew:
        manifests: Mapping[str, Manifest | None] = {name: run.stage(name).manifest() for name in needed}
    else:
        manifests = {name: run.stage(name).finished() for name in needed}
    return {name: manifest.fingerprint for name, manifest in manifests.items() if manifest is not None}


def run_stage(job: JobSettings, run: RunFolder, stage: Stage, resources: Resources) -> Finished:
    """One stage: skipped when it is finished with these settings and inputs, else done and its manifest written."""
    folder = run.stage(stage.name)
    settings, inputs = recorded_settings(job, stage), input_fingerprints(job, run, stage)
    if stage.always_anew:
        run.delete(stage.name)
    if not folder.start(settings, inputs):
        _LOG.info("the stage was finished before")
        return Finished(folder.finished(), skipped=True)
    started = time.monotonic()
    _LOG.info("the stage begins")
    try:
        with noted_in(folder):
            outcome = stage.execute(resources.pointed(stage.name), run, resources)
    finally:
        resources.end_stage()
    manifest = Manifest(
        stage=stage.name,
        settings=settings,
        inputs=inputs,
        rows=outcome.rows,
        seconds=time.monotonic() - started,
        cost_usd=outcome.cost_usd,
        figures=outcome.figures,
    )
    told = {"seconds": round(manifest.seconds, 3), "rows": manifest.rows, "cost_usd": manifest.cost_usd}
    _LOG.info("the stage is finished", extra={"fields": told})
    return Finished(folder.finish(manifest), skipped=False)


def run_job(
    job: JobSettings,
    first: str | None = None,
    last: str | None = None,
    on_stage: Callable[[str, Finished], None] = lambda name, finished: None,
) -> dict[str, Finished]:
    """All chosen stages of a job, with one cluster, judge and service for all of them."""
    run = RunFolder.at(job.run)
    stages = chosen_stages(job, first, last)
    results: dict[str, Finished] = {}
    board = Board(run.name)
    with (
        locked(run),
        working_for(Origin.of(run.uri, job.logging)),
        Resources(job, run) as resources,
        observed_by(board.progress),
    ):
        for stage in stages:
            with _logged(stage.name), board.working(stage.name):
                results[stage.name] = run_stage(job, run, stage, resources)
                board.finished(results[stage.name].manifest)
            on_stage(stage.name, results[stage.name])
    return results


@contextmanager
def _logged(stage: str) -> Iterator[None]:
    """What is logged in the block carries the stage's name; what ends it is logged."""
    with in_stage(stage):
        try:
            yield
        except VpRayError as error:
            _LOG.error("the stage stops: %s", error, extra={"told": True})
            raise
        except KeyboardInterrupt:
            _LOG.info("the stage was interrupted")
            raise
        except BaseException:
            _LOG.exception("the stage stops")
            raise
