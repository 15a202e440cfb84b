"""Run directories on any filesystem that pyarrow or fsspec knows: tables, atomic files, manifests.

RUN/STAGE/started.json    settings and fingerprints of the inputs, written first
RUN/STAGE/...             tables (Parquet), progress of an unfinished stage
RUN/STAGE/manifest.json   written last and atomically; from then on the stage is immutable

On object stores no reader depends on a listing: a folder of parts is sealed with `files.json`, which names them.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from vp_ray import __version__
from vp_ray.config import difference
from vp_ray.errors import StorageError
from vp_ray.ids import fingerprint
from vp_ray.redaction import without_secrets

MANIFEST = "manifest.json"
STARTED = "started.json"
FILES = "files.json"
_ONE_PUT = "?allow_delayed_open=true"
"""Has Arrow send a small file in one request; otherwise it begins a multipart upload for each, which takes three."""
ROW_GROUP_IMAGES = 100
"""Rows of a row group where rows hold images, so that a viewer fetches little."""


@cache
def _s3_client(bucket: str, variables: tuple[tuple[str, str], ...]) -> tuple[fs.FileSystem, str]:
    """One client for all folders of a bucket, and the bucket's path in it.

    The AWS library reads the process's environment while it makes a client, which crashes when another thread of a run
    changes it in the same moment: so no thread makes one for every file that it writes.
    """
    return fs.FileSystem.from_uri(f"s3://{bucket}{_ONE_PUT}")


def _aws_variables() -> tuple[tuple[str, str], ...]:
    """What tells a client its endpoint and account."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns the operating system's errors into `StorageError` with a remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"there is no such file ({error})", "Run the stage that makes it first.", where) from None
    except (PermissionError, OSError, pa.ArrowInvalid) as error:
        code = getattr(error, "errno", None)
        if code == errno.ENOSPC or "No space left" in str(error):
            problem, remedy = "no space is left on the device", "Free some, then start the run again: it goes on here."
        elif code in (errno.EACCES, errno.EPERM, errno.EROFS) or "ACCESS_DENIED" in str(error):
            problem, remedy = "writing or reading is not permitted", "Choose another run directory or mend its rights."
        else:
            problem, remedy = f"storage failed ({error})", "Start the run again: it goes on from here."
        raise StorageError(problem, remedy, where) from error


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on some filesystem; pickles, so that workers on other machines write to the same place."""

    uri: str

    @classmethod
    def at(cls, place: str | Path) -> Self:
        """The folder of a URI or path; relative paths become absolute, since workers run elsewhere."""
        text = str(place)
        return cls(text.rstrip("/") if "://" in text else str(Path(text).expanduser().resolve()))

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.uri}/{name}")

    @property
    def is_local(self) -> bool:
        """Whether this is a path of the local filesystem."""
        return "://" not in self.uri or self.uri.startswith("file://")

    @property
    def local_path(self) -> Path:
        """The local path; raises `StorageError` for a remote folder."""
        if not self.is_local:
            raise StorageError("this must be a local folder", "Give a path of this machine.", self.uri)
        return Path(self.uri.removeprefix("file://"))

    def filesystem(self) -> tuple[fs.FileSystem, str]:
        """The pyarrow filesystem and this folder's path in it; fsspec serves what pyarrow does not know."""
        if self.is_local:
            return fs.LocalFileSystem(), str(self.local_path)
        try:
            if self.uri.startswith("s3://"):
                bucket, _, rest = self.uri.removeprefix("s3://").partition("/")
                client, path = _s3_client(bucket, _aws_variables())
                return client, f"{path}/{rest}".rstrip("/")
            return fs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, ValueError):
            pass
        try:
            import fsspec

            filesystem, path = fsspec.core.url_to_fs(self.uri)
        except (ImportError, ValueError) as error:
            raise StorageError(
                f"this storage is not known ({error})", "Use a path, s3://, gs:// or an fsspec URI.", self.uri
            ) from None
        return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name is here."""
        filesystem, path = self.filesystem()
        with explained(f"{self.uri}/{name}"):
            return filesystem.get_file_info(f"{path}/{name}").type != fs.FileType.NotFound

    def names(self) -> list[str]:
        """Names of the files here, sorted: those that `seal` named, or else those that are listed."""
        if not self.is_local and self.exists(FILES):
            return [str(name) for name in self.read_json(FILES)]
        return self.listed()

    def listed(self) -> list[str]:
        """Names of the files that a listing shows, sorted; temporary ones are left out.

        A store whose listings are late may not show what was written a moment ago.
        """
        return sorted(info.base_name for info in self._infos() if info.is_file and not info.base_name.endswith(".tmp"))

    def folders(self) -> list[str]:
        """Names of the folders here that a listing shows, sorted."""
        return sorted(info.base_name for info in self._infos() if info.type == fs.FileType.Directory)

    def _infos(self) -> list[fs.FileInfo]:
        filesystem, path = self.filesystem()
        with explained(self.uri):
            infos: list[fs.FileInfo] = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return infos

    def seal(self, names: Iterable[str]) -> None:
        """Says which files the folder holds from now on, for readers on an object store; a disk's listing is exact."""
        if not self.is_local:
            self.write_json(FILES, sorted(names))

    def sizes(self, names: Iterable[str]) -> dict[str, int | None]:
        """Bytes of these files; None for one that is not there. No listing is asked."""
        filesystem, path = self.filesystem()
        wanted = list(names)
        with explained(self.uri):
            infos = filesystem.get_file_info([f"{path}/{name}" for name in wanted])
        return {name: info.size if info.is_file else None for name, info in zip(wanted, infos, strict=True)}

    def make(self) -> Folder:
        """Creates the folder and its parents."""
        filesystem, path = self.filesystem()
        with explained(self.uri):
            filesystem.create_dir(path, recursive=True)
        return self

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file whole or not at all: a temporary file, fsync and rename here; one PUT on object stores."""
        where = f"{self.uri}/{name}"
        with explained(where):
            if self.is_local:
                target = self.local_path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.tmp")
                try:
                    with temporary.open("wb") as file:
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
                    temporary.replace(target)
                finally:
                    temporary.unlink(missing_ok=True)
            else:
                filesystem, path = self.filesystem()
                with filesystem.open_output_stream(f"{path}/{name}") as stream:
                    stream.write(data)

    def read_bytes(self, name: str) -> bytes:
        """The content of a file; raises `StorageError` when it is not there."""
        filesystem, path = self.filesystem()
        with explained(f"{self.uri}/{name}"), filesystem.open_input_stream(f"{path}/{name}") as stream:
            return bytes(stream.read())

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file whole or not at all."""
        self.write_bytes(name, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The value in a JSON file; raises `StorageError` when it is missing or broken."""
        try:
            return json.loads(self.read_bytes(name))
        except (ValueError, RecursionError) as error:
            raise StorageError(
                f"this is not valid JSON ({error})", "Delete the stage's folder and run it again.", f"{self.uri}/{name}"
            ) from None

    def write_table(self, name: str, table: pa.Table, schema: pa.Schema | None = None) -> None:
        """Writes a Parquet file whole or not at all, in `schema` where one is given."""
        if schema is not None:
            table = table.select(schema.names).cast(schema)
        rows = ROW_GROUP_IMAGES if "image" in table.schema.names else 1 << 17
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=rows, write_page_index=True)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One Parquet file, or all `*.parquet` of the folder `name` in the order of their names; `.` is this folder."""
        target = self if name == "." else self / name
        filesystem, _ = target.filesystem()
        chosen = list(columns) if columns is not None else None
        with explained(target.uri):
            return pa.concat_tables(
                pq.read_table(path, columns=chosen, filesystem=filesystem) for path in self.parquet_paths(name)
            )

    def parquet_paths(self, name: str) -> list[str]:
        """Where in the file system the Parquet file `name` is, or all `*.parquet` of the folder `name`, by their names.

        `.` is this folder.
        """
        # Object stores know no ".".
        target = self if name == "." else self / name
        filesystem, path = target.filesystem()
        with explained(target.uri):
            sealed = not target.is_local and target.exists(FILES)
            if not sealed and filesystem.get_file_info(path).type != fs.FileType.Directory:
                return [path]
            parts = [part for part in target.names() if part.endswith(".parquet")]
        if not parts:
            raise StorageError("there are no Parquet files", "Run the stage that makes them first.", target.uri)
        return [f"{path}/{part}" for part in parts]

    def delete(self, name: str) -> None:
        """Removes a file, or a folder with all it holds; nothing happens when it is not there."""
        filesystem, path = self.filesystem()
        with explained(f"{self.uri}/{name}"):
            kind = filesystem.get_file_info(f"{path}/{name}").type
            if kind == fs.FileType.Directory:
                filesystem.delete_dir(f"{path}/{name}")
            elif kind == fs.FileType.File:
                filesystem.delete_file(f"{path}/{name}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished stage says of itself."""

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    rows: dict[str, int]
    """Row counts by status or table, for instance `{"scored": 510, "refused": 2}`."""
    seconds: float
    cost_usd: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    """Numbers that the closing table and the report show."""
    code_version: str = __version__

    @property
    def fingerprint(self) -> str:
        """Names what this stage made: its settings, its inputs and its row counts, not its timing."""
        return fingerprint({"stage": self.stage, "settings": self.settings, "inputs": self.inputs, "rows": self.rows})


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What a stage's `job.run` returns; the pipeline adds settings, inputs and seconds and writes the manifest."""

    rows: dict[str, int]
    cost_usd: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageFolder(Folder):
    """The folder of one stage of a run, with its life: started, then finished by its manifest."""

    stage: str = ""

    def manifest(self) -> Manifest | None:
        """The manifest, or None while the stage is not finished."""
        if not self.exists(MANIFEST):
            return None
        values = self.read_json(MANIFEST)
        try:
            return Manifest(**values)
        except TypeError:
            raise StorageError(
                "the manifest is of another version", "Use a new run directory.", f"{self.uri}/{MANIFEST}"
            ) from None

    def finished(self) -> Manifest:
        """The manifest of a stage that must be finished; raises `StorageError` when it is not."""
        manifest = self.manifest()
        if manifest is None:
            raise StorageError(
                f"the stage '{self.stage}' is not finished", f"Run `vp-ray {self.stage}` with this job first.", self.uri
            )
        return manifest

    def start(self, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        """Whether there is work to do: False when the stage is finished with these settings and inputs.

        Records settings and inputs first. Raises `StorageError`, with the difference, when the folder was started
        with others.
        """
        now = without_secrets({"settings": dict(settings), "inputs": dict(inputs)})
        if self.exists(STARTED):
            before = self.read_json(STARTED)
            changed = difference(before, json.loads(json.dumps(now, default=str)))
            if changed:
                raise StorageError(
                    f"the stage '{self.stage}' was started with other settings: " + "; ".join(changed),
                    "Use another run directory, or delete this folder to make the stage anew.",
                    self.uri,
                )
            return self.manifest() is None
        self.make().write_json(STARTED, now)
        return True

    def finish(self, manifest: Manifest) -> Manifest:
        """Writes the manifest, after which the stage is immutable; what it returns is as it was written."""
        values = without_secrets(asdict(manifest))
        self.write_json(MANIFEST, values)
        return Manifest(**values)


@dataclass(frozen=True, slots=True)
class RunFolder(Folder):
    """One run: a folder for each stage."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.uri.rpartition("/")[2]

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage, which need not exist yet."""
        return StageFolder(f"{self.uri}/{name}", name)

    def source(self, name: str) -> StageFolder:
        """The finished stage whose tables serve as those of `name`: the stage itself, or the import in its place."""
        for candidate in (self.stage(name), self.stage("import")):
            if candidate.manifest() is not None:
                return candidate
        self.stage(name).finished()
        raise AssertionError("finished() raises for a stage that is not finished")
