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
from vp_ray.checkpoints import new_checkpoint, newest_checkpoint
from vp_ray.distributed.collectives import TorchCollective
from vp_ray.distributed.engines import DeepSpeedEngine
from vp_ray.distributed.sharded_engine import ShardedEngine
from vp_ray.errors import CheckpointError
from vp_ray.storage import Folder


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


def save_on_two(rank: int, place: str, folder: Path) -> None:
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    engine = ShardedEngine(network(), OPTIMIZER, 2, schedule)
    train(engine, 0, MIDDLE, half, 2)
    with new_checkpoint(Folder.at(place), "middle", {}, TorchCollective()) as path:
        engine.save(path)
    # Each rank writes to a folder of its own, as on machines of their own.
    assert len(list((path / "shards").glob("*"))) == 0
    train(engine, MIDDLE, UPDATES, half, 2)
    whole(engine, folder / "undisturbed")


def resume_from(rank: int, place: str, folder: Path, ranks: int) -> None:
    size = BATCH // ranks
    engine = ShardedEngine(network(), OPTIMIZER, ranks, schedule)
    checkpoint = newest_checkpoint(Folder.at(place))
    assert checkpoint is not None
    with checkpoint.to_read() as path:
        engine.load(path)
    train(engine, MIDDLE, UPDATES, slice(rank * size, (rank + 1) * size), ranks)
    whole(engine, folder / f"on_{ranks}")


def test_ranks_without_a_common_disk_go_on_from_s3(tmp_path: Path, on_ranks: Callable[..., None], bucket: str) -> None:
    place = f"{bucket}/sharded"
    on_ranks(2, save_on_two, place, tmp_path)
    on_ranks(2, resume_from, place, tmp_path, 2)
    assert difference(tmp_path / "on_2", tmp_path / "undisturbed") == 0
    on_ranks(1, resume_from, place, tmp_path, 1)
    assert difference(tmp_path / "on_1", tmp_path / "undisturbed") <= TOLERANCE


def test_as_many_ranks_go_on_bitwise_and_another_number_within_rounding(
    tmp_path: Path, on_ranks: Callable[..., None]
) -> None:
    on_ranks(2, on_two, tmp_path)
    assert difference(tmp_path / "resumed", tmp_path / "undisturbed") == 0
    assert not (tmp_path / "middle" / "universal").exists()
    on_ranks(1, on_one, tmp_path)
    assert difference(tmp_path / "on_one", tmp_path / "undisturbed") <= TOLERANCE
