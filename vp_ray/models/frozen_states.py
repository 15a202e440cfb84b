"""Keeps what a frozen prefix made of images, in memory or on disk, up to a bound."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vp_ray.models.frozen_prefix import FrozenPrefix
from vp_ray.protocols import Pixels

_SUFFIX: Final = ".safetensors"


class States(Protocol):
    """A bounded store. What is in it stays while it is full: every pass of a training asks for each image once, so
    that the share which fits is found in each pass, while a store that dropped the oldest would find less."""

    def get(self, key: str) -> Tensor | None:
        """What was put under this key, on the CPU; None where nothing is."""
        ...

    def put(self, key: str, states: Tensor) -> None:
        """Keeps the states where they fit."""
        ...


class NoStates:
    """Keeps nothing."""

    def get(self, key: str) -> Tensor | None:
        """None."""
        return None

    def put(self, key: str, states: Tensor) -> None:
        """Does nothing."""


class MemoryStates:
    """Keeps states in this process."""

    def __init__(self, limit_bytes: int) -> None:
        self.left_bytes = limit_bytes
        self._kept: dict[str, Tensor] = {}

    def get(self, key: str) -> Tensor | None:
        """See `States`."""
        return self._kept.get(key)

    def put(self, key: str, states: Tensor) -> None:
        """See `States`."""
        if key not in self._kept and states.nbytes <= self.left_bytes:
            self.left_bytes -= states.nbytes
            self._kept[key] = states.cpu().clone()


class DiskStates:
    """Keeps states as files of a folder that all ranks of a machine may share.

    States of other frozen weights are removed when it is opened. `writers` ranks divide what is left of the bound.
    """

    def __init__(self, folder: Path, fingerprint: str, limit_bytes: int, writers: int = 1) -> None:
        self._folder = folder / fingerprint
        self._folder.mkdir(parents=True, exist_ok=True)
        for other in folder.iterdir():
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        taken = sum(path.stat().st_size for path in self._folder.glob(f"*{_SUFFIX}"))
        self.left_bytes = max(0, limit_bytes - taken) // writers

    def get(self, key: str) -> Tensor | None:
        """See `States`; a file that cannot be read counts as none."""
        try:
            return load_file(self._folder / f"{key}{_SUFFIX}")["states"]
        except (OSError, SafetensorError, KeyError):
            return None

    def put(self, key: str, states: Tensor) -> None:
        """See `States`; a file appears whole or not at all."""
        if states.nbytes > self.left_bytes or (self._folder / f"{key}{_SUFFIX}").exists():
            return
        handle, temporary = tempfile.mkstemp(dir=self._folder)
        os.close(handle)
        save_file({"states": states.cpu().contiguous()}, temporary)
        self.left_bytes -= Path(temporary).stat().st_size
        Path(temporary).rename(self._folder / f"{key}{_SUFFIX}")


class CachedPrefix:
    """A frozen prefix that works each block of images out once, as far as its store reaches."""

    def __init__(self, prefix: FrozenPrefix, store: States, precision: str = "") -> None:
        self._prefix, self._store = prefix, store
        self._salt = f"{prefix.fingerprint} {precision}".encode()
        self.asked = self.found = 0
        """Blocks that were asked for, and those of them that were in the store."""

    def states(self, blocks: Sequence[Pixels], prepare: Callable[[Pixels], Tensor]) -> Tensor:
        """(B, T, W) states of all images of the blocks, on the prefix's device.

        A block is (images, side, side, 3) uint8, whose bytes are the key, and `prepare` makes pixel values of it. On a
        CPU each block goes through the prefix alone, so that its states do not depend, not even by a rounding, on which
        other blocks the store had: a training that goes on is bitwise the same.
        """
        device = self._prefix.device
        keys = [self._key(block) for block in blocks]
        found = [self._store.get(key) for key in keys]
        missing = [place for place, states in enumerate(found) if states is None]
        self.asked += len(keys)
        self.found += len(keys) - len(missing)
        made = self._made([prepare(blocks[place]) for place in missing], device)
        for place, states in zip(missing, made, strict=True):
            self._store.put(keys[place], states)
            found[place] = states
        return torch.cat([states.to(device, non_blocking=True) for states in found if states is not None])

    def _made(self, values: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        if device.type == "cpu" or not values:
            return [self._prefix(each) for each in values]
        return list(self._prefix(torch.cat(list(values)).to(device)).split([len(each) for each in values]))

    def _key(self, block: Pixels) -> str:
        found = hashlib.blake2b(self._salt, digest_size=16)
        found.update(f"{block.shape}".encode())
        found.update(np.ascontiguousarray(block).data)
        return found.hexdigest()
