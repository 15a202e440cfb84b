import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vp_ray.errors import SettingsError
from vp_ray.local_copies import to_read
from vp_ray.rl.evaluation import grid_png
from vp_ray.rl.trackers import TensorBoard, tell, trackers_of
from vp_ray.storage import Folder

from .conftest import settings_of


class Told:
    def __init__(self) -> None:
        self.rows: list[int] = []
        self.pictures: list[tuple[int, str, bytes]] = []

    def log(self, epoch: int, row: Any) -> None:
        self.rows.append(epoch)

    def picture(self, epoch: int, name: str, png: bytes) -> None:
        self.pictures.append((epoch, name, png))

    def close(self) -> None:
        pass


def events(folder: Path) -> list[Any]:
    """The events of all files, oldest file first."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_tensorboard_has_every_number_and_grid_and_what_is_made_again_replaces_what_was(tmp_path: Path) -> None:
    png = grid_png(np.full((2, 4, 4, 3), 200, np.uint8))
    row = {"epoch": 1, "reward_mean": 0.5, "held_out_score": None, "kl": 2.0}
    for first, reward in ((1, 0.5), (2, 0.75)):
        board = TensorBoard(settings_of("nowhere"), Folder.at(tmp_path))
        for epoch in (first, first + 1):
            board.log(epoch, {**row, "reward_mean": reward})
        board.picture(first, "grid", png)
        board.close()
    found = events(tmp_path / "tensorboard")
    values = [(each.step, value.tag, value.simple_value) for each in found for value in each.summary.value]
    assert [(step, value) for step, tag, value in values if tag == "reward_mean"] == [
        (1, 0.5), (2, 0.5), (2, 0.75), (3, 0.75),
    ]  # fmt: skip
    assert {tag for _, tag, _ in values} == {"reward_mean", "kl", "grid"}
    assert [each.step for each in found if each.HasField("session_log")] == [1, 2]
    image = next(value.image for each in found for value in each.summary.value if value.tag == "grid")
    assert (image.height, image.width) == (4, 8)


def test_tensorboards_events_are_on_s3_while_a_training_works_and_when_it_ends(bucket: str) -> None:
    folder = Folder.at(f"{bucket}/curves")
    board = TensorBoard(settings_of("nowhere"), folder)

    def steps() -> list[int]:
        with to_read(folder / "tensorboard", (folder / "tensorboard").listed()) as path:
            return sorted({each.step for each in events(path) if each.summary.value})

    epoch, deadline = 0, time.monotonic() + 60
    while not steps():
        assert time.monotonic() < deadline
        epoch += 1
        board.log(epoch, {"epoch": epoch, "kl": 2.0})
    board.close()
    assert steps() == list(range(1, epoch + 1))


def test_a_grid_goes_with_the_rows_of_evaluations(tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "epoch_002.png").write_bytes(b"png")
    told = Told()
    for epoch, score in ((1, None), (2, 0.5)):
        tell([told], {"epoch": epoch, "held_out_score": score}, Folder.at(tmp_path))
    assert told.rows == [1, 2]
    assert told.pictures == [(2, "grid", b"png")]


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "tensorboardX")])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"rl.trackers: the tracker '{name}'.*vp-ray\[{name}\]"):
        trackers_of(settings_of("nowhere", trackers=[name]), Folder.at(tmp_path))
