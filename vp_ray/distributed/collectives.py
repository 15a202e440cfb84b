"""The other ranks, as loops need them: none, or those of a torch process group."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from vp_ray.errors import ClusterError

ArrayT = TypeVar("ArrayT", bound=np.generic)


class SingleProcess:
    """One rank of one."""

    rank = 0
    world_size = 1

    def gather(self, array: NDArray[ArrayT]) -> NDArray[ArrayT]:
        """The array itself."""
        return array

    def barrier(self) -> None:
        """Nothing to wait for."""


class TorchCollective:
    """The ranks of the initialised process group, over gloo or NCCL."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        if not dist.is_initialized():
            raise ClusterError("there is no process group", "Start this through Ray Train, or use SingleProcess.")
        self._device = torch.device(device)
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()

    def gather(self, array: NDArray[ArrayT]) -> NDArray[ArrayT]:
        """The arrays of all ranks joined along their first axis, in rank order; first axes may differ in length."""
        # Raw bytes travel, so that every dtype comes back as it went.
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        length = torch.tensor([len(data)], device=self._device)
        lengths = [torch.zeros_like(length) for _ in range(self.world_size)]
        dist.all_gather(lengths, length)
        sent = torch.zeros(max(int(each) for each in lengths), dtype=torch.uint8, device=self._device)
        sent[: len(data)] = torch.from_numpy(data.copy())
        received = [torch.empty_like(sent) for _ in range(self.world_size)]
        dist.all_gather(received, sent)
        parts = [
            part.cpu().numpy()[: int(count)].view(array.dtype).reshape(-1, *array.shape[1:])
            for part, count in zip(received, lengths, strict=True)
        ]
        return np.concatenate(parts)

    def barrier(self) -> None:
        """Waits until every rank is here."""
        dist.barrier()
