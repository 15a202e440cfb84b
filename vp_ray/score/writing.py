"""Scores as a table in the terminal, as JSON lines, or as a Parquet file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from vp_ray.errors import InputError, StorageError
from vp_ray.records import OVERALL
from vp_ray.score.rows import in_parts
from vp_ray.score.scoring import ScoredRow, ScoreStatus

_ROWS_AT_ONCE: Final = 1000


def as_values(scored: ScoredRow, aspects: Sequence[str]) -> dict[str, Any]:
    """One row as plain values; a row that was not scored has null in place of numbers."""
    numbers = dict(zip(aspects, scored.scores, strict=True)) if scored.scores else dict.fromkeys(aspects)
    return {
        "image": scored.row.image,
        "place": scored.row.place,
        "prompt": scored.row.prompt,
        **numbers,
        OVERALL: scored.overall,
        "prompt_cut": scored.prompt_cut,
        "status": str(scored.status),
        "reason": scored.reason,
    }


def check_out(out: Path) -> None:
    """Raises `InputError` unless the name of the file says how it is to be written."""
    if out.suffix not in _WRITERS:
        raise InputError(f"the suffix '{out.suffix}' is not known", f"Use one of: {', '.join(_WRITERS)}.", str(out))


def write(rows: Iterable[ScoredRow], aspects: Sequence[str], out: Path) -> None:
    """Writes the file whole or not at all, in the way that its suffix says; raises `StorageError` where it cannot."""
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[out.suffix](rows, aspects, temporary)
        temporary.replace(out)
    except OSError as error:
        raise StorageError(f"the scores cannot be written ({error})", "Choose another file.", str(out)) from None
    finally:
        temporary.unlink(missing_ok=True)


def json_lines(rows: Iterable[ScoredRow], aspects: Sequence[str]) -> Iterator[str]:
    """One line of JSON a row, without its end."""
    for row in rows:
        yield json.dumps(as_values(row, aspects), ensure_ascii=False)


def _write_json_lines(rows: Iterable[ScoredRow], aspects: Sequence[str], file: Path) -> None:
    with file.open("w", encoding="utf-8") as opened:
        opened.writelines(f"{line}\n" for line in json_lines(rows, aspects))


def _write_parquet(rows: Iterable[ScoredRow], aspects: Sequence[str], file: Path) -> None:
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("image", "place", "prompt")),
            *((name, pa.float32()) for name in (*aspects, *(() if OVERALL in aspects else (OVERALL,)))),
            ("prompt_cut", pa.bool_()),
            ("status", pa.string()),
            ("reason", pa.string()),
        ]
    )
    with pq.ParquetWriter(file, schema) as writer:
        for part in in_parts(rows, _ROWS_AT_ONCE):
            writer.write_table(pa.Table.from_pylist([as_values(row, aspects) for row in part], schema=schema))


_WRITERS: Final[Mapping[str, Callable[[Iterable[ScoredRow], Sequence[str], Path], None]]] = {
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}


def print_table(rows: Sequence[ScoredRow], aspects: Sequence[str], console: Console) -> None:
    """Prints one line a row; prompts where they differ, and the status where a row was not scored."""
    values = [as_values(row, aspects) for row in rows]
    columns = ["image", *(["prompt"] if len({row.row.prompt for row in rows}) > 1 else []), *aspects]
    columns += [] if OVERALL in aspects else [OVERALL]
    columns += [] if all(row.status == ScoreStatus.SCORED for row in rows) else ["status", "reason"]
    texts = ("image", "prompt", "status", "reason")
    table = Table(box=None)
    for column in columns:
        table.add_column(column, justify="left" if column in texts else "right", overflow="fold")
    for row in values:
        table.add_row(*(_cell(row[column]) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
