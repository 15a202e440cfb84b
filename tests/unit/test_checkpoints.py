"""Checkpoints on a disk and on S3: the newest whole one counts, two are kept, and no listing is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vp_ray.checkpoints import INDEX, new_checkpoint, newest_checkpoint
from vp_ray.distributed.collectives import SingleProcess
from vp_ray.ids import content_id
from vp_ray.storage import Folder


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder.at(tmp_path / "checkpoints")
    return Folder.at(f"{request.getfixturevalue('bucket')}/{content_id('test', request.node.name)}")


def write(folder: Folder, number: int, data: bytes = b"weights") -> None:
    with new_checkpoint(folder, f"epoch_{number:03d}", {"epoch": number}, SingleProcess()) as path:
        (path / "weights").write_bytes(data)
        (path / "shards").mkdir()
        (path / "shards" / "rank_0").write_bytes(data + b"0")


def found(folder: Folder) -> tuple[int, bytes, bytes]:
    checkpoint = newest_checkpoint(folder)
    assert checkpoint is not None
    with checkpoint.to_read() as path:
        return checkpoint.state()["epoch"], (path / "weights").read_bytes(), (path / "shards/rank_0").read_bytes()


def test_the_newest_two_are_kept_and_the_last_is_found(folder: Folder) -> None:
    assert newest_checkpoint(folder) is None
    for number in (8, 999, 1000):
        write(folder, number, b"%d" % number)
    assert found(folder) == (1000, b"1000", b"10000")
    assert folder.folders() == ["epoch_1000", "epoch_999"]
    write(folder, 1000, b"again")
    assert found(folder) == (1000, b"again", b"again0")
    assert [entry["name"] for entry in folder.read_json(INDEX)] == ["epoch_999", "epoch_1000"]


@pytest.mark.parametrize("harm", ["cut short", "lost", "without state"])
def test_one_that_is_not_whole_any_more_gives_way_to_the_one_before(folder: Folder, harm: str) -> None:
    write(folder, 1)
    write(folder, 2)
    if harm == "cut short":
        (folder / "epoch_002").write_bytes("shards/rank_0", b"w")
    else:
        (folder / "epoch_002").delete("weights" if harm == "lost" else "state.json")
    assert found(folder)[0] == 1
    write(folder, 2)
    assert found(folder)[0] == 2


def test_one_that_was_cut_off_does_not_count(folder: Folder) -> None:
    write(folder, 1)

    def cut() -> None:
        with new_checkpoint(folder, "epoch_002", {"epoch": 2}, SingleProcess()) as path:
            (path / "weights").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut()
    assert found(folder)[0] == 1


def test_no_listing_is_needed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_listing(self: Folder) -> list[str]:
        raise AssertionError(self.uri)

    folder = Folder.at(f"{bucket}/unlisted")
    monkeypatch.setattr(Folder, "_infos", no_listing)
    write(folder, 1)
    write(folder, 2)
    write(folder, 3)
    assert found(folder)[0] == 3
