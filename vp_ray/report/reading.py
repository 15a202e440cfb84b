"""What a run holds so far: finished stages, unfinished ones and missing ones are all read, and none is an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from vp_ray.errors import StorageError
from vp_ray.storage import FILES, MANIFEST, STARTED, Folder, Manifest, RunFolder, explained

T = TypeVar("T")

STAGES: Final = ("prompts", "import", "generate", "annotate", "preferences", "reward", "rl", "evaluate")
LOOP: Final = tuple(stage for stage in STAGES if stage != "import")
"""The stages of the whole loop, which are missed where a run has not got them and nothing else is planned."""

State = Literal["finished", "unfinished", "missing"]


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files of a run in one folder."""

    place: str
    files: int
    size: int


@dataclass(slots=True)
class RunReader:
    """Reads one run; what is broken becomes a line in `problems` and reads as if it were not there."""

    run: RunFolder
    planned: tuple[str, ...] = LOOP
    """The stages that the run's job asks for."""
    problems: list[str] = field(default_factory=list)
    _manifests: dict[str, Manifest | None] = field(default_factory=dict)

    def state(self, stage: str) -> State:
        """Whether the stage is finished, was begun, or is not there."""
        if self.manifest(stage) is not None:
            return "finished"
        return "unfinished" if self.run.stage(stage).exists(STARTED) else "missing"

    def concerns(self, stage: str) -> bool:
        """Whether a stage is there or still to come, so that the page has a place for it."""
        return stage in self.planned or self.state(stage) != "missing"

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a finished stage."""
        if stage not in self._manifests:
            self._manifests[stage] = self._tolerant(self.run.stage(stage).manifest)
        return self._manifests[stage]

    def figures(self, stage: str) -> dict[str, Any]:
        """The figures of a finished stage; none otherwise."""
        manifest = self.manifest(stage)
        return manifest.figures if manifest is not None else {}

    def settings(self, stage: str) -> dict[str, Any]:
        """The settings that a stage was started with; none for a missing stage."""
        folder = self.run.stage(stage)
        if not folder.exists(STARTED):
            return {}
        started = self._tolerant(lambda: folder.read_json(STARTED))
        settings: dict[str, Any] = started.get("settings", {}) if isinstance(started, dict) else {}
        return settings

    def rows(
        self, stage: str, name: str, columns: Sequence[str], where: ds.Expression | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a table that match, or nothing where the table is missing."""
        table = self.table(stage, name, columns, where)
        return table.to_pylist() if table is not None else []

    def table(
        self, stage: str, name: str, columns: Sequence[str], where: ds.Expression | None = None
    ) -> pa.Table | None:
        """Columns of a Parquet file, or None where it is missing; only matching rows are kept in memory."""
        folder = self.run.stage(stage)
        if not folder.exists(name):
            return None

        def read() -> pa.Table:
            filesystem, _ = folder.filesystem()
            with explained(f"{folder.uri}/{name}"):
                dataset = ds.dataset(folder.parquet_paths(name), filesystem=filesystem, format="parquet")
                return dataset.to_table(columns=list(columns), filter=where)

        return self._tolerant(read)

    def batches(self, stage: str, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of a Parquet file piece by piece, for what need not be in memory at once."""
        folder = self.run.stage(stage)
        if not folder.exists(name):
            return
        filesystem, _ = folder.filesystem()
        try:
            with explained(f"{folder.uri}/{name}"):
                yield from ds.dataset(folder.parquet_paths(name), filesystem=filesystem, format="parquet").to_batches(
                    columns=list(columns)
                )
        except StorageError as error:
            self._note(error)

    def curve(self, stage: str, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The rows of a file of JSON lines; a last line that was cut off is left out."""
        folder = self.run.stage(stage)
        if not folder.exists(name):
            return []
        rows = []
        for line in (self._tolerant(lambda: folder.read_bytes(name)) or b"").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows

    def json(self, stage: str, name: str) -> Any:
        """The value of a JSON file, or None where it is missing or broken."""
        folder = self.run.stage(stage)
        return self._tolerant(lambda: folder.read_json(name)) if folder.exists(name) else None

    def names(self, stage: str, folder: str) -> list[str]:
        """Names of the files in a folder of a stage, sorted."""
        return self._tolerant((self.run.stage(stage) / folder).names) or []

    def pictures(self, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """(image_id, encoded bytes) of wanted images, from whichever stage holds them.

        Ids are read first, and pixels only of the row groups that hold a wanted one, so that a large run stays quick.
        """
        left = set(wanted)
        for stage in ("evaluate", "generate", "import", "preferences"):
            folder = self.run.stage(stage) / "images"
            for name in self.names(stage, "images"):
                if left and name.endswith(".parquet"):
                    found = self._tolerant(partial(_pick, folder, name, left)) or {}
                    left -= found.keys()
                    yield from found.items()

    def files(self) -> list[FileGroup]:
        """All files of the run by folder, without the report's own and object stores' lists of files."""
        filesystem, root = self.run.filesystem()
        infos = self._tolerant(
            lambda: filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        )
        found: dict[str, list[int]] = {}
        for info in infos or []:
            place = info.path[len(root) :].lstrip("/")
            if info.is_file and not place.startswith(("report/", ".")) and not place.endswith(".tmp"):
                parent, _, name = place.rpartition("/")
                if name == FILES:
                    continue
                key = place if parent.count("/") == 0 and (parent in STAGES or name == MANIFEST) else f"{parent}/"
                found.setdefault(key, []).append(info.size)
        return [FileGroup(place, len(sizes), sum(sizes)) for place, sizes in sorted(found.items())]

    def _tolerant(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (StorageError, pa.ArrowException, OSError, KeyError) as error:
            self._note(error)
            return None

    def _note(self, error: Exception) -> None:
        if str(error) not in self.problems:
            self.problems.append(str(error))


def _pick(folder: Folder, name: str, wanted: set[str]) -> dict[str, bytes]:
    """Wanted images of one Parquet file."""
    found: dict[str, bytes] = {}
    filesystem, path = folder.filesystem()
    with explained(f"{folder.uri}/{name}"), filesystem.open_input_file(f"{path}/{name}") as source:
        file = pq.ParquetFile(source)
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["image_id"]).column(0).to_pylist()
            places = [place for place, image_id in enumerate(ids) if image_id in wanted]
            if not places:
                continue
            images = file.read_row_group(group, columns=["image"]).column("image").take(pa.array(places)).to_pylist()
            there = ((ids[place], image) for place, image in zip(places, images, strict=True) if image is not None)
            found.update({image_id: image["bytes"] for image_id, image in there if image["bytes"] is not None})
    return found
