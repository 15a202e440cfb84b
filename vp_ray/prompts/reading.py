"""Raw prompts out of files and out of the embedded world."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vp_ray.errors import InputError
from vp_ray.local_copies import file_to_read
from vp_ray.prompts.benchmarks import read_benchmark
from vp_ray.prompts.config import BenchmarkPrompts, FilePrompts, PromptSource, ShapeworldPrompts
from vp_ray.shapeworld.scenes import all_scenes, category_of, prompt_of, split_of


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt as it was found; `split` is set where the source decides it."""

    text: str
    source: str
    category: str = ""
    split: str | None = None
    flags: tuple[str, ...] = ()


def read(source: PromptSource) -> Iterator[RawPrompt]:
    """The prompts of a source, in its order; raises `InputError` that names file, line and remedy."""
    if isinstance(source, ShapeworldPrompts):
        yield from _shapeworld(source)
        return
    if isinstance(source, BenchmarkPrompts):
        for prompt, suite_category in read_benchmark(source):
            yield RawPrompt(prompt, source.name, suite_category, source.split)
        return
    rows = _rows(source)
    for number, row in enumerate(islice(rows, source.limit), start=1):
        where = f"{source.path}, row {number}"
        if isinstance(row, str):
            yield RawPrompt(row, Path(source.path).name)
            continue
        if not isinstance(row, dict) or source.column not in row:
            keys = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise InputError(
                f"there is no '{source.column}' (found: {keys})",
                "Set `column` to the key that holds the prompt.",
                where,
            )
        text = row[source.column]
        if text is None:
            text = ""
        if not isinstance(text, str):
            raise InputError(f"'{source.column}' is not text but {text!r}", "Mend the row, or set `column`.", where)
        category = row.get(source.category_column) if source.category_column else None
        yield RawPrompt(text, Path(source.path).name, str(category or ""))


def _rows(source: FilePrompts) -> Iterator[Any]:
    try:
        with file_to_read(source.path) as path:
            yield from _rows_of(path, source)
    except FileNotFoundError:
        raise InputError("there is no such file", "Set the path of the prompts in the job file.", source.path) from None
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid, csv.Error) as error:
        raise InputError(
            f"the file cannot be read as {source.kind} ({error})", "Check its kind and content.", source.path
        ) from None


def _rows_of(path: Path, source: FilePrompts) -> Iterator[Any]:
    if source.kind == "parquet":
        columns = [name for name in (source.column, source.category_column) if name]
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise InputError(
                    f"there is no column '{missing[0]}' (found: {', '.join(file.schema_arrow.names)})",
                    "Set `column` to the one that holds the prompt.",
                    source.path,
                )
            for batch in file.iter_batches(columns=columns):
                yield from batch.to_pylist()
        return
    with path.open(encoding="utf-8", newline="" if source.kind in ("csv", "tsv") else None) as lines:
        if source.kind == "text":
            yield from (line.rstrip("\n") for line in lines)
        elif source.kind == "jsonl":
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parsed(line, f"{source.path}:{number}")
        elif source.kind == "json":
            values = _parsed(lines.read(), source.path)
            if not isinstance(values, list):
                raise InputError("the file must hold a list", "Use kind: jsonl for one object a line.", source.path)
            yield from values
        else:
            yield from csv.DictReader(lines, delimiter="\t" if source.kind == "tsv" else ",")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(
            f"this is not valid JSON ({error})", "Mend the line or choose another `kind`.", where
        ) from None


def _shapeworld(source: ShapeworldPrompts) -> Iterator[RawPrompt]:
    """Prompts of each split, as evenly over the categories as they last, in a seeded order."""
    for split, count in source.counts.items():
        by_category: dict[str, list[str]] = {}
        for scene in all_scenes():
            if split_of(scene) == split:
                by_category.setdefault(category_of(scene), []).append(prompt_of(scene))
        available = sum(len(prompts) for prompts in by_category.values())
        if count > available:
            raise InputError(
                f"the split '{split}' has {available} prompts, not {count}", "Ask for fewer.", "prompts.sources"
            )
        rng = np.random.default_rng([source.seed, len(split)])
        queues = {name: [prompts[i] for i in rng.permutation(len(prompts))] for name, prompts in by_category.items()}
        taken = 0
        while taken < count:
            for category, queue in queues.items():
                if queue and taken < count:
                    yield RawPrompt(queue.pop(), "shapeworld", category, split)
                    taken += 1
