"""Lists of test prompts out of the files in which benchmarks publish them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vp_ray.errors import InputError
from vp_ray.local_copies import file_to_read

_KEYS: Final = ("prompt", "caption", "text")


def read_prompt_list(name: str, place: str) -> list[str]:
    """The prompts of a file, by path or URI, or of all `.txt` files of a folder; raises `InputError` that names it."""
    where = f"preferences.checks.test_prompts.{name}: {place}"
    try:
        with file_to_read(place) as path:
            files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
            prompts = [prompt for file in files for prompt in _prompts(file, where) if prompt.strip()]
    except FileNotFoundError:
        raise InputError("there is no such file", "Correct the path, or leave the list out.", where) from None
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise InputError(f"the list cannot be read ({error})", "Check that it is whole.", where) from None
    if not prompts:
        raise InputError("there are no prompts in it", "Give a list of prompts.", where)
    return prompts


def _prompts(path: Path, where: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="" if path.suffix in (".csv", ".tsv") else None) as file:
        if path.suffix == ".json":
            values = json.load(file)
            rows: Any = values if isinstance(values, list) else []
        elif path.suffix in (".jsonl", ".ndjson"):
            rows = (json.loads(line) for line in file if line.strip())
        elif path.suffix in (".csv", ".tsv"):
            rows = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        else:
            rows = (line.rstrip("\n") for line in file)
        for row in rows:
            yield row if isinstance(row, str) else _of_object(row, where)


def _of_object(row: Any, where: str) -> str:
    named = {str(key).lower(): value for key, value in row.items()} if isinstance(row, dict) else {}
    found = next((named[key] for key in _KEYS if isinstance(named.get(key), str)), None)
    if found is None:
        raise InputError(f"a row has none of {', '.join(_KEYS)}", "Give a list with one of these columns.", where)
    return str(found)
