"""ZeRO-3 checkpoints in parts: as many ranks go on bitwise, another number by DeepSpeed's universal checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.distributed.test_engines import (
    BATCH,
    MIDDLE,
    OPTIMIZER,
    TOLERANCE,
    UPDATES,
    difference,
    network,
    schedule,
    train,
)
from vp_ray.distributed.engines import DeepSpeedEngine
from vp_ray.distributed.sharded_engine import ShardedEngine
from vp_ray.errors import CheckpointError


def whole(engine: ShardedEngine, folder: Path) -> None:
    """Weights and moments in one piece, to be compared."""
    DeepSpeedEngine.save(engine, folder)


def on_two(rank: int, folder: Path) -> None:
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    engine = ShardedEngine(network(), OPTIMIZER, 2, schedule)
    train(engine, 0, MIDDLE, half, 2)
    engine.save(folder / "middle")
    train(engine, MIDDLE, UPDATES, half, 2)
    whole(engine, folder / "undisturbed")
    again = ShardedEngine(network(), OPTIMIZER, 2, schedule)
    again.load(folder / "middle")
    assert again.updates == MIDDLE
    train(again, MIDDLE, UPDATES, half, 2)
    whole(again, folder / "resumed")


def on_one(rank: int, folder: Path) -> None:
    engine = ShardedEngine(network(), OPTIMIZER, 1, schedule)
    engine.load(folder / "middle")
    assert engine.updates == MIDDLE
    train(engine, MIDDLE, UPDATES, slice(None), 1)
    whole(engine, folder / "on_one")
    (folder / "middle" / "engine.json").write_text('{"updates": 3, "ranks": 5}')
    for path in (folder / "middle" / "universal" / "zero").rglob("*.pt"):
        path.write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="no whole sharded state"):
        ShardedEngine(network(), OPTIMIZER, 1, schedule).load(folder / "middle")
    with pytest.raises(CheckpointError, match="no whole sharded state"):
        engine.load(folder / "nowhere")


def test_as_many_ranks_go_on_bitwise_and_another_number_within_rounding(
    tmp_path: Path, on_ranks: Callable[..., None]
) -> None:
    on_ranks(2, on_two, tmp_path)
    assert difference(tmp_path / "resumed", tmp_path / "undisturbed") == 0
    assert not (tmp_path / "middle" / "universal").exists()
    on_ranks(1, on_one, tmp_path)
    assert difference(tmp_path / "on_one", tmp_path / "undisturbed") <= TOLERANCE
