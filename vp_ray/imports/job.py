"""Wires the import stage: another data set in, the tables of this package out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from vp_ray.errors import InputError
from vp_ray.imports.choices import of_hpdv2, of_pickapic
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.files import read_rows
from vp_ray.imports.groups import Group
from vp_ray.imports.mapping import of_table
from vp_ray.imports.pictures import captioned, of_pictures
from vp_ray.imports.rankings import of_imagereward, of_rankings
from vp_ray.imports.scores import of_mos, of_richhf, of_visionprefer
from vp_ray.imports.tables import TableWriter
from vp_ray.storage import RunFolder, StageOutcome
from vp_ray.telemetry import progress

KINDS: Final[Mapping[str, Callable[[Any, ImportSettings], Group]]] = {
    "rankings": of_rankings,
    "imagereward": of_imagereward,
    "hpdv2": of_hpdv2,
    "pickapic": of_pickapic,
    "richhf": of_richhf,
    "mos": of_mos,
    "visionprefer": of_visionprefer,
    "table": of_table,
    "images": of_pictures,
}


def read_groups(settings: ImportSettings) -> Iterator[tuple[str, Group | InputError]]:
    """(place, group) of every row of the data set, or the error of a row that cannot be used."""
    convert = KINDS[settings.kind]
    path = Path(settings.path).expanduser()
    rows = captioned(path) if settings.kind == "images" and path.is_dir() else read_rows(path)
    for where, row in islice(rows, settings.limit):
        if isinstance(row, InputError):
            yield where, row
            continue
        try:
            yield where, convert(row, settings)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"the row cannot be used ({type(error).__name__}: {error})"
            remedy = f"Mend or remove the row, see `import.kind` {settings.kind}, or set `import.bad_rows: skip`."
            yield where, InputError(problem, remedy, where)


def run(settings: ImportSettings, run: RunFolder) -> StageOutcome:
    """Writes `prompts.parquet`, `images/` and whichever of `rankings.parquet`, `comparisons.parquet`, `ratings.parquet`
    and `judgements.parquet` the data set has answers for; raises `InputError` for a bad row unless these are skipped.
    """
    folder = run.stage("import")
    writer = TableWriter(folder, settings)
    bad: list[dict[str, str]] = []
    read = 0
    with progress("import", "rows") as bar:
        for where, found in read_groups(settings):
            try:
                if isinstance(found, InputError):
                    raise found
                writer.add(found, where)
            except InputError as error:
                if settings.bad_rows == "refuse":
                    raise
                bad.append({"row": where, "problem": str(error)})
            read += 1
            bar.update(read)
    if read == len(bad):
        problem = f"none of its {read} rows can be used" if read else "the file holds no rows"
        raise InputError(problem, bad[0]["problem"] if bad else "Give a file with at least one row.", settings.path)
    if bad:
        folder.write_bytes("bad_rows.jsonl", "".join(json.dumps(row) + "\n" for row in bad).encode())
    return StageOutcome(rows=writer.finish() | ({"bad_rows": len(bad)} if bad else {}))
