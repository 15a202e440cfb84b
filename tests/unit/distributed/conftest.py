"""Two gloo ranks in processes of their own, as Ray Train would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _rank(rank: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        function(rank, *arguments)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def on_two_ranks() -> Callable[..., None]:
    """Calls `function(rank, *arguments)` on both ranks; raises what a rank raised. The function must be importable."""

    def run(function: Callable[..., None], *arguments: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        mp.spawn(_rank, (port, function, arguments), nprocs=2)

    return run
