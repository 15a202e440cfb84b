"""Files that only a library can write or read, which takes paths alone: in place on a disk, and on an object store by
way of a temporary copy on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from vp_ray.storage import Folder, explained


@contextmanager
def to_write(folder: Folder, sends: bool = True) -> Iterator[Path]:
    """Where to write what belongs into the folder.

    On an object store the files are sent when the context ends without an error, and the folder is sealed; where
    several ranks write, one of them `sends`.
    """
    if folder.is_local:
        yield folder.make().local_path
        return
    with tempfile.TemporaryDirectory(prefix="vp-ray-") as temporary:
        yield Path(temporary)
        if sends:
            folder.seal(send(Path(temporary), folder))


@contextmanager
def to_read(folder: Folder, names: Iterable[str] | None = None) -> Iterator[Path]:
    """Where the files of the folder can be read: those of `names`, or all that it was sealed with."""
    if folder.is_local:
        yield folder.local_path
        return
    with tempfile.TemporaryDirectory(prefix="vp-ray-") as temporary:
        filesystem, path = folder.filesystem()
        for name in folder.names() if names is None else names:
            target = Path(temporary) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with explained(f"{folder.uri}/{name}"):
                fs.copy_files(f"{path}/{name}", str(target), filesystem, fs.LocalFileSystem())
        yield Path(temporary)


@contextmanager
def file_to_read(place: str) -> Iterator[Path]:
    """Where the file of a path or URI can be read; raises `FileNotFoundError` for a URI that names none."""
    if "://" not in place:
        yield Path(place).expanduser()
        return
    folder, _, name = place.rpartition("/")
    if not Folder.at(folder).exists(name):
        raise FileNotFoundError(place)
    with to_read(Folder.at(folder), [name]) as path:
        yield path / name


def sizes_below(place: Path) -> dict[str, int]:
    """Bytes of every file below, by its name from there; temporary ones are left out."""
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.suffix != ".tmp")
    return {path.relative_to(place).as_posix(): path.stat().st_size for path in files}


def send(place: Path, folder: Folder) -> dict[str, int]:
    """Bytes of every file below `place`, by name, all of which are in the folder now."""
    filesystem, path = folder.filesystem()
    sizes = sizes_below(place)
    for name in sizes:
        with explained(f"{folder.uri}/{name}"):
            fs.copy_files(str(place / name), f"{path}/{name}", fs.LocalFileSystem(), filesystem)
    return sizes
