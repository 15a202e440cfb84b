"""Weights that other people published: found in a file, a folder or on the hub, of bounded size, never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from torch import Tensor

from vp_ray.errors import CheckpointError

MAX_BYTES: Final = 12 * 2**30
"""Larger files of weights are refused; the largest known scorer has 3.9 GiB."""

_SUFFIXES: Final = (".safetensors", ".pt", ".pth", ".bin")
_INNER: Final = ("state_dict", "model", "module")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a scorer's weights are."""

    path: str
    """A file, a folder, or a hub id."""
    revision: str | None = None
    """Revision of the hub id."""

    @property
    def local(self) -> Path | None:
        """The file or folder of this machine; None for a hub id."""
        path = Path(self.path).expanduser()
        return path if path.exists() else None

    @property
    def is_model_folder(self) -> bool:
        """Whether this is a folder in transformers' own layout."""
        return self.local is not None and (self.local / "config.json").is_file()

    @property
    def options(self) -> dict[str, str]:
        """What `from_pretrained` needs besides the path."""
        return {"revision": self.revision} if self.revision else {}

    def file(self, name: str) -> Path:
        """The file of weights here: this file, the one of that name or the only one of the folder, or that of the hub.

        Raises `CheckpointError` when there is none or it is too large.
        """
        path = self.local or self._of_hub(name)
        if path.is_dir():
            found = [path / name] if (path / name).is_file() else _weights_of(path)
            if len(found) != 1:
                raise CheckpointError(
                    f"the folder holds {len(found)} files of weights", f"Give the file, for instance {name}.", self.path
                )
            path = found[0]
        _check_size(path.stat().st_size, str(path))
        return path

    def check_size(self) -> None:
        """Raises `CheckpointError` when the weights of a folder or hub id in transformers' layout are too large."""
        if self.local is not None:
            _check_size(sum(file.stat().st_size for file in _weights_of(self.local)), self.path)
            return
        try:
            files = HfApi().model_info(self.path, revision=self.revision, files_metadata=True).siblings or []
        except Exception:  # of its HTTP library, which this package does not import
            # What the cache holds was checked when it was fetched; where it holds nothing, from_pretrained says so.
            return
        sizes = dict.fromkeys(_SUFFIXES, 0)
        for file in files:
            suffix = Path(file.rfilename).suffix
            if suffix in sizes:
                sizes[suffix] += file.size or 0
        _check_size(sizes[".safetensors"] or sum(sizes.values()), self.path)

    def _of_hub(self, name: str) -> Path:
        try:
            cached = try_to_load_from_cache(self.path, name, revision=self.revision)
            if isinstance(cached, str):
                return Path(cached)
            found = HfApi().get_paths_info(self.path, [name], revision=self.revision)
            _check_size(sum(getattr(file, "size", 0) for file in found), f"{self.path}/{name}")
            return Path(hf_hub_download(self.path, name, revision=self.revision))
        except CheckpointError:
            raise
        except Exception as error:  # of its HTTP library, which this package does not import
            raise CheckpointError(
                f"there is no such file, and the hub gives no {name} of that id ({first_line(error)})",
                "Give a file, a folder, or a hub id.",
                self.path,
            ) from None


def _weights_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)


def _check_size(size: int, where: str) -> None:
    if size > MAX_BYTES:
        raise CheckpointError(
            f"the weights have {size / 2**30:.1f} GiB; more than {MAX_BYTES / 2**30:.0f} are not read",
            "Give the file of the scorer itself.",
            where,
        )


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights by name, in float32; of nested ones the state dict, without `module.` before.

    Raises `CheckpointError` when the file cannot be read, or holds anything that is not weights.
    """
    try:
        found = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Exception as error:  # torch raises what its reader of archives does, of many kinds
        raise CheckpointError(
            f"the weights cannot be read ({first_line(error)})",
            "Fetch the file again; files that hold more than tensors are never opened.",
            str(path),
        ) from None
    inner = next((found[key] for key in _INNER if isinstance(found.get(key), Mapping)), found)
    tensors = {name.removeprefix("module."): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError("the file holds no tensors", "Give the file of the scorer's weights.", str(path))
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _unpickled(path: Path) -> Mapping[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # Files older than torch 1.6 cannot be mapped.
        found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, Mapping):
        raise TypeError(f"it holds a {type(found).__name__}")
    return found
