"""Arrays of all ranks come together in rank order, whatever their dtype and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vp_ray.distributed.collectives import SingleProcess, TorchCollective
from vp_ray.errors import ClusterError


def gather_many(rank: int, folder: Path) -> None:
    ranks = TorchCollective()
    assert (ranks.rank, ranks.world_size) == (rank, 2)
    rows = np.arange(6, dtype=np.float32).reshape(3, 2) + 100 * rank
    seeds = np.array([2**63 + rank], np.uint64)
    flags = np.array([rank == 0, True])
    uneven = np.full((1 + 2 * rank, 2), rank, np.int16)
    empty = np.zeros((2 * rank, 3), np.float64)
    ranks.barrier()
    np.savez(
        folder / f"{rank}.npz",
        rows=ranks.gather(rows),
        seeds=ranks.gather(seeds),
        flags=ranks.gather(flags),
        uneven=ranks.gather(uneven),
        empty=ranks.gather(empty),
    )


def test_both_ranks_get_the_same_joined_arrays(tmp_path: Path, on_two_ranks: Callable[..., None]) -> None:
    on_two_ranks(gather_many, tmp_path)
    for rank in (0, 1):
        found = np.load(tmp_path / f"{rank}.npz")
        assert found["rows"][:, 0].tolist() == [0, 2, 4, 100, 102, 104]
        assert found["seeds"].tolist() == [2**63, 2**63 + 1]
        assert found["seeds"].dtype == np.uint64
        assert found["flags"].tolist() == [True, True, False, True]
        assert found["uneven"].tolist() == [[0, 0], [1, 1], [1, 1], [1, 1]]
        assert found["empty"].shape == (2, 3)


def test_one_process_gathers_its_own_array() -> None:
    array = np.arange(3)
    assert SingleProcess().gather(array) is array
    assert (SingleProcess().rank, SingleProcess().world_size) == (0, 1)


def test_a_collective_without_a_process_group_is_refused() -> None:
    with pytest.raises(ClusterError, match="process group"):
        TorchCollective()
