"""The prompts of published test suites with their categories, out of the files in which their authors publish them.

T2I-CompBench (arXiv 2307.06350), PartiPrompts (2206.10789), DrawBench (2205.11487) and GenEval (2310.11513).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vp_ray.errors import InputError
from vp_ray.local_copies import file_to_read, to_read
from vp_ray.prompts.config import BenchmarkName, BenchmarkPrompts
from vp_ray.storage import Folder

_COMPOSITIONS: Final = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")

Rows = Iterator[tuple[str, str]]
"""(prompt, category)."""


def read_benchmark(source: BenchmarkPrompts) -> Rows:
    """(prompt, category) in the order of the files, at most `per_category` of each.

    Raises `InputError` that names the file, what it lacks, and what the suite is published as.
    """
    taken: Counter[str] = Counter()
    is_folder = source.name == "t2i_compbench"
    try:
        with to_read(Folder.at(source.path)) if is_folder else file_to_read(source.path) as path:
            for prompt, category in _READERS[source.name](path):
                taken[category] += 1
                if source.per_category is None or taken[category] <= source.per_category:
                    yield prompt, category
    except FileNotFoundError:
        raise _unfit(source.name, source.path, "there is no such file") from None
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid, csv.Error, ValueError) as error:
        raise _unfit(source.name, source.path, f"the file cannot be read ({error})") from None
    if not taken:
        raise _unfit(source.name, source.path, "there are no prompts in it")


def _unfit(name: str, place: Path | str, problem: str) -> InputError:
    return InputError(problem, f"{name} is published as {_PUBLISHED[name]}.", str(place))


def _t2i_compbench(path: Path) -> Rows:
    files = {name: path / f"{name}_val.txt" for name in _COMPOSITIONS}
    there = {name: file for name, file in files.items() if file.is_file()}
    if not there:
        raise _unfit("t2i_compbench", path, "none of its lists is in this folder")
    for name, file in there.items():
        yield from ((line, name) for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def _table(name: str, prompt_key: str) -> Callable[[Path], Rows]:
    def read(path: Path) -> Rows:
        for row in _table_rows(path):
            named = {str(key).strip().lower(): value for key, value in row.items()}
            missing = [key for key in (prompt_key, "category") if not isinstance(named.get(key), str)]
            if missing:
                raise _unfit(name, path, f"a row has no '{missing[0]}' (found: {', '.join(named)})")
            yield named[prompt_key], named["category"]

    return read


def _table_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
        return
    with path.open(encoding="utf-8-sig", newline="") as lines:
        yield from csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")


def _geneval(path: Path) -> Rows:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("prompt", "tag")):
                raise _unfit("geneval", path, f"line {number} has no 'prompt' and 'tag'")
            yield row["prompt"], row["tag"]


_READERS: Final[Mapping[BenchmarkName, Callable[[Path], Rows]]] = {
    "t2i_compbench": _t2i_compbench,
    "parti_prompts": _table("parti_prompts", "prompt"),
    "drawbench": _table("drawbench", "prompts"),
    "geneval": _geneval,
}
_PUBLISHED: Final[Mapping[str, str]] = {
    "t2i_compbench": "a folder with color_val.txt, shape_val.txt and so on",
    "parti_prompts": "PartiPrompts.tsv with the columns Prompt and Category",
    "drawbench": "a CSV, TSV or Parquet file with the columns Prompts and Category",
    "geneval": "evaluation_metadata.jsonl, whose lines have `prompt` and `tag`",
}
