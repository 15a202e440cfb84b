"""Wires `vp-ray export`: reads a run, writes the data set beside its place and moves it there whole."""

from __future__ import annotations

import datetime
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from vp_ray.errors import InputError
from vp_ray.publish.card import card
from vp_ray.publish.config import ExportSettings
from vp_ray.publish.croissant import croissant
from vp_ray.publish.facts import Facts, gather
from vp_ray.publish.layout import Layout, WrittenFile
from vp_ray.publish.selection import select
from vp_ray.publish.tables import Tables
from vp_ray.storage import RunFolder, explained
from vp_ray.telemetry import progress

README = "README.md"
CROISSANT = "croissant.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """A data set that was written."""

    folder: Path
    files: list[WrittenFile]
    facts: Facts


def export(settings: ExportSettings, run: RunFolder, out: Path) -> Exported:
    """Writes the data set of a run whose preferences are finished into `out`, whole or not at all.

    Raises `InputError` for a folder that is not empty and `StorageError` for a stage that is not finished.
    """
    out = out.expanduser().resolve()
    with explained(str(out)):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError("this is not an empty folder", "Choose another one, or delete it.", str(out))
    run.stage("preferences").finished()
    title = settings.title or run.uri.rstrip("/").rpartition("/")[2]
    making = out.with_name(f"{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        layout = Layout(making, settings.rows_per_row_group, settings.file_megabytes)
        facts = _write(settings, run, layout)
        (making / README).write_text(card(settings, title, facts, layout), encoding="utf-8")
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        metadata = croissant(settings, title, facts, layout, today)
        (making / CROISSANT).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with explained(str(out)):
            if out.exists():
                out.rmdir()
            making.rename(out)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Exported(out, layout.files, facts)


def _write(settings: ExportSettings, run: RunFolder, layout: Layout) -> Facts:
    selection = select(run, settings)
    with explained(str(layout.folder)):
        layout.folder.mkdir(parents=True)
    tables = Tables(run, selection, layout)
    if tables.preferences.num_rows == 0:
        raise InputError("no pair is left to publish", "Loosen leave_out_flags or least_harmlessness.", run.uri)
    done = 0
    with progress("export", "images and pairs") as bar:

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            bar.update(done)

        tables.write_preferences()
        tables.write_pick_a_pic(advance)
        tables.write_images(advance)
        tables.write_prompts(settings.raw_prompts)
        tables.write_judgements()
        tables.write_answers()
    return gather(run, selection, tables.preferences, layout)
