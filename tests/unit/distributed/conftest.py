"""Gloo ranks in processes of their own, as Ray Train would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _rank(rank: int, ranks: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    try:
        function(rank, *arguments)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def on_ranks() -> Callable[..., None]:
    """Calls an importable `function(rank, *arguments)` on so many ranks; raises what a rank raised."""

    def run(ranks: int, function: Callable[..., None], *arguments: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        mp.spawn(_rank, (ranks, port, function, arguments), nprocs=ranks)

    return run


@pytest.fixture(scope="session")
def on_two_ranks(on_ranks: Callable[..., None]) -> Callable[..., None]:
    """Calls `function(rank, *arguments)` on both of two ranks, as `on_ranks` does."""
    return partial(on_ranks, 2)
