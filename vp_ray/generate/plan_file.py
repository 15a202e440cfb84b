"""The plan of a generation in a file: written and read part by part, whatever the number of images.

generate/plan.parquet      a row of `records.PLAN` an image, shard after shard
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vp_ray.generate.config import GenerateSettings
from vp_ray.generate.planning import shards_of
from vp_ray.records import PLAN
from vp_ray.storage import Folder, explained
from vp_ray.streams import table_parts, table_writer

PLAN_FILE: Final = "plan.parquet"
_ROW_GROUP: Final = 1 << 13
"""Small, since a shard reads one or two row groups."""
_ROWS_A_PART: Final = 1 << 15
_PROMPTS_A_PART: Final = 1 << 12


class PromptRows:
    """Rows of a table of prompts as dicts, as often as they are gone through, and never all at once."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches(_PROMPTS_A_PART):
            yield from batch.to_pylist()


def write_plan(folder: Folder, prompts: pa.Table, settings: GenerateSettings) -> None:
    """Writes `plan.parquet` for prompts with their `prompt_id` and `prompt`."""
    with table_writer(folder, PLAN_FILE, PLAN, _ROW_GROUP) as append:
        waiting: list[dict[str, Any]] = []
        for pool in settings.generators:
            for shard in shards_of(PromptRows(prompts), pool, settings):
                waiting += [{**row, "file": shard["file"]} for row in shard["rows"]]
                if len(waiting) >= _ROWS_A_PART:
                    append(pa.Table.from_pylist(waiting, schema=PLAN))
                    waiting = []
        append(pa.Table.from_pylist(waiting, schema=PLAN))


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """Which rows of the plan are drawn into a file."""

    file: str
    first: int
    rows: int

    def told(self) -> dict[str, Any]:
        """As a shard of `run_shards`."""
        return asdict(self)


def shard_places(folder: Folder) -> dict[str, list[ShardPlace]]:
    """The shards of each generator, in their order."""
    found: dict[str, list[ShardPlace]] = {}
    before, generator, first, place = "", "", 0, 0
    for part in table_parts(folder, PLAN_FILE, ["generator", "file"]):
        runs = pc.run_end_encode(part["file"].combine_chunks())
        starts = np.concatenate([[0], np.asarray(runs.run_ends)])[:-1]
        for file, start in zip(runs.values.to_pylist(), starts.tolist(), strict=True):
            if file != before:
                if before:
                    found.setdefault(generator, []).append(ShardPlace(before, first, place + start - first))
                before, generator, first = file, part["generator"][start].as_py(), place + start
        place += part.num_rows
    if before:
        found.setdefault(generator, []).append(ShardPlace(before, first, place - first))
    return found


class PlannedShardMaker:
    """An `ImageShardMaker` whose shards name rows of the plan, which the worker reads by itself."""

    def __init__(self, generator: Mapping[str, Any], folder: str, plan: str) -> None:
        from vp_ray.models.image_shards import ImageShardMaker  # diffusers, for the actor alone

        self._maker = ImageShardMaker(generator, folder)
        self._plan = Folder(plan)
        self._reading = Lock()
        self._metadata: pq.FileMetaData | None = None

    def __call__(self, shard: Mapping[str, Any]) -> dict[str, Any]:
        """The result row of `ImageShardMaker`."""
        return self._maker({"file": shard["file"], "rows": self._rows(shard["first"], shard["rows"])})

    def _rows(self, first: int, count: int) -> list[dict[str, Any]]:
        filesystem, path = self._plan.filesystem()
        where = f"{self._plan.uri}/{PLAN_FILE}"
        with (
            self._reading,
            explained(where),
            pq.ParquetFile(f"{path}/{PLAN_FILE}", filesystem=filesystem, metadata=self._metadata) as file,
        ):
            self._metadata = file.metadata
            ends = np.cumsum([self._metadata.row_group(n).num_rows for n in range(self._metadata.num_row_groups)])
            groups = range(int(np.searchsorted(ends, first, "right")), int(np.searchsorted(ends, first + count)) + 1)
            before = int(ends[groups[0] - 1]) if groups[0] else 0
            table = file.read_row_groups(list(groups), [name for name in PLAN.names if name != "file"])
        rows: list[dict[str, Any]] = table.slice(first - before, count).to_pylist()
        return rows
