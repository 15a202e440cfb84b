"""The runs of a file of tables as jobs, and stages that one run takes over from another."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyarrow import fs

from vp_ray.config import override
from vp_ray.errors import SettingsError
from vp_ray.pipeline.running import chosen_stages
from vp_ray.pipeline.settings import JobSettings
from vp_ray.pipeline.stages import STAGE_NAMES
from vp_ray.storage import STARTED, Folder, RunFolder, explained
from vp_ray.tables.config import RUNS, TableRunSettings, TablesSettings

_ALWAYS_ANEW: Final = "report"


@dataclass(frozen=True, slots=True)
class TableRun:
    """One run of one seed."""

    name: str
    seed: int
    job: JobSettings
    source: RunFolder | None
    """Where stages are taken over from."""
    taken: tuple[str, ...]
    """These stages."""
    until: str

    @property
    def folder(self) -> RunFolder:
        """Where it lies."""
        return RunFolder.at(self.job.run)

    @property
    def own(self) -> list[str]:
        """The stages that it makes itself."""
        return [stage.name for stage in chosen_stages(self.job, None, self.until) if stage.name not in self.taken]

    @property
    def is_finished(self) -> bool:
        """Whether all of them are there."""
        return all(self.folder.stage(stage).manifest() is not None for stage in self.own)


def seed_folder(settings: TablesSettings, seed: int) -> Folder:
    """The folder of all runs of a seed."""
    return Folder.at(settings.folder) / "runs" / f"seed-{seed}"


def run_folder(settings: TablesSettings, seed: int, name: str) -> RunFolder:
    """The folder of one run."""
    return RunFolder((seed_folder(settings, seed) / name).uri)


def planned_runs(settings: TablesSettings, seed: int) -> Iterator[TableRun]:
    """The runs of a seed in the order of the file; raises `SettingsError` that names the run for a job that cannot be.

    A run has the changes of the run that it branches from, then its own.
    """
    for name, run in settings.runs.items():
        where = f"runs.{name}"
        for stage in (run.first, run.until):
            if stage not in STAGE_NAMES or stage == _ALWAYS_ANEW:
                known = ", ".join(stage for stage in STAGE_NAMES if stage != _ALWAYS_ANEW)
                raise SettingsError(f"there is no stage '{stage}'", f"Stages are: {known}.", where)
        values = _values(settings, seed, name)
        job = JobSettings.load({**values, "run": run_folder(settings, seed, name).uri}, where)
        before = STAGE_NAMES[: STAGE_NAMES.index(run.first)]
        taken = tuple(stage for stage in before if job.stage(stage) is not None) if run.of else ()
        source = run_folder(settings, seed, run.of) if run.of else None
        yield TableRun(name, seed, job, source, taken, run.until)


def _values(settings: TablesSettings, seed: int, name: str) -> dict[str, Any]:
    chain: list[TableRunSettings] = []
    wanted: str | None = name
    while wanted is not None:
        chain.insert(0, settings.runs[wanted])
        wanted = chain[0].of
    values: dict[str, Any] = dict(settings.job)
    for run in chain:
        values = override(values, (f"{key}={json.dumps(value)}" for key, value in run.set.items()))
        values = {key: value for key, value in values.items() if key not in run.without}
    seeds = [f"{key}={seed}" for key in settings.seeded if key.partition(".")[0] in values]
    return _placed(override(values, seeds), seed_folder(settings, seed).uri) | {"report": None}


def _placed(value: Any, folder: str) -> Any:
    """The value with `{runs}` in its strings replaced by the folder."""
    if isinstance(value, Mapping):
        return {key: _placed(inner, folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_placed(inner, folder) for inner in value]
    return value.replace(RUNS, folder) if isinstance(value, str) else value


def states(settings: TablesSettings) -> list[tuple[TableRun, str]]:
    """Every run with how far it is: finished, begun or to do."""
    found = []
    for run in (run for seed in settings.seeds for run in planned_runs(settings, seed)):
        begun = any(run.folder.stage(stage).exists(STARTED) for stage in run.own)
        found.append((run, "finished" if run.is_finished else "begun" if begun else "to do"))
    return found


def take_over(run: TableRun) -> None:
    """Makes the source's finished stages those of the run: links on a disk, copies on an object store.

    Raises `StorageError` for a stage that the source has not finished. A run checks what it took against its own
    settings, as it does with stages that it made itself.
    """
    if run.source is None:
        return
    for stage in run.taken:
        run.source.stage(stage).finished()
        if not run.folder.exists(stage):
            _share(run.source.stage(stage), run.folder, stage)


def _share(stage: Folder, run: RunFolder, name: str) -> None:
    if stage.is_local and run.is_local:
        run.make()
        with explained(run.uri):
            # Relative, so that the folder of all runs can move.
            (run.local_path / name).symlink_to(os.path.relpath(stage.local_path, run.local_path))
        return
    source, path = stage.filesystem()
    target, place = run.filesystem()
    with explained(run.uri):
        # Its manifest, by which a stage is finished, sorts behind its tables but is copied last in any case.
        files = [info.path for info in source.get_file_info(fs.FileSelector(path, recursive=True)) if info.is_file]
        for file in sorted(files, key=lambda file: file.endswith("/manifest.json")):
            with (
                source.open_input_stream(file) as data,
                target.open_output_stream(f"{place}/{name}{file[len(path) :]}") as out,
            ):
                out.write(data.read())
