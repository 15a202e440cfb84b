"""Makes the runs behind a file of tables, seed by seed, and lays the tables out after each.

FOLDER/runs/seed-N/NAME/    the runs, each as `vp-ray run` makes it
FOLDER/scores/              scores of the test sets' images
FOLDER/tables.{md,json}, FOLDER/TITLE.csv
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from vp_ray.distributed.cluster import connect
from vp_ray.errors import SettingsError
from vp_ray.locking import locked
from vp_ray.pipeline.running import Finished, run_job
from vp_ray.storage import Folder, RunFolder
from vp_ray.tables.accuracy import Scores, accuracy_table
from vp_ray.tables.config import TablesSettings
from vp_ray.tables.layout import as_csv, as_markdown
from vp_ray.tables.runs import TableRun, planned_runs, take_over
from vp_ray.tables.wins import condition_table, win_table

Tell = Callable[[str], None]
Make = Callable[[Sequence[int]], dict[str, Any]]
TABLES: Final = "tables.md"


def make_tables(settings: TablesSettings, tell: Tell) -> list[dict[str, Any]]:
    """Makes every run that is not finished, and the tables after each whole seed.

    What was cut off goes on where it was; finished stages are skipped.
    """
    folder = RunFolder.at(settings.folder)
    planned = {seed: list(planned_runs(settings, seed)) for seed in settings.seeds}
    first = planned[settings.seeds[0]][0]
    tables: list[dict[str, Any]] = []
    with locked(folder), connect(first.job.ray):
        for runs in planned.values():
            for run in runs:
                _make(run, tell)
            tables = _lay_out(settings, tell)
    return tables


def lay_out(settings: TablesSettings, tell: Tell) -> list[dict[str, Any]]:
    """The tables of those seeds whose runs for them are finished; raises `SettingsError` where there is none."""
    return _lay_out(settings, tell)


def _make(run: TableRun, tell: Tell) -> None:
    take_over(run)

    def told(stage: str, finished: Finished) -> None:
        if not finished.skipped:
            tell(f"seed {run.seed}, {run.name}: {stage} finished in {finished.manifest.seconds:.1f} s")

    run_job(run.job, last=run.until, on_stage=told)


def _lay_out(settings: TablesSettings, tell: Tell) -> list[dict[str, Any]]:
    """Each table has the seeds for which all that it needs is there; one without any is left out, and named."""
    folder = Folder.at(settings.folder)
    finished = {seed: {run.name for run in planned_runs(settings, seed) if run.is_finished} for seed in settings.seeds}
    scores = Scores(settings, tell)
    tables: list[dict[str, Any]] = []
    for table, needed, make in _wanted(settings, scores):
        seeds = [seed for seed in settings.seeds if needed <= finished[seed]]
        if seeds:
            tables.append(make(seeds))
        else:
            tell(f"'{table}' waits for {', '.join(sorted(needed - finished[settings.seeds[0]]))}")
    if not tables:
        raise SettingsError("no table has all of its runs", "Make them first, without --layout.", settings.folder)
    for made in tables:
        folder.write_bytes(f"{_file_name(made['title'])}.csv", as_csv(made).encode())
    folder.write_json("tables.json", {"tables": tables})
    folder.write_bytes(TABLES, as_markdown(tables).encode())
    return tables


def _wanted(settings: TablesSettings, scores: Scores) -> Iterator[tuple[str, set[str], Make]]:
    """(title, runs that it needs, what makes it of some seeds) of every table."""
    for accuracy in settings.accuracy:
        named = {scorer.partition("/")[0] for scorer in accuracy.scorers.values()} & settings.runs.keys()
        named |= {test.run for test in accuracy.tests.values() if test.run}
        yield accuracy.title, named, partial(accuracy_table, settings, accuracy, scores=scores)
    for wins in settings.wins:
        yield wins.title, set(wins.methods.values()), partial(win_table, settings, wins)
    for conditions in settings.conditions:
        yield conditions.title, set(conditions.methods.values()), partial(condition_table, settings, conditions)


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
