"""The page of a run on an object store is that of the same run on a disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyarrow import fs

from vp_ray.report.config import ReportSettings
from vp_ray.report.job import PAGE
from vp_ray.report.job import run as write_report
from vp_ray.storage import RunFolder


def test_a_run_on_s3_has_the_page_and_the_pictures_of_one_on_a_disk(
    module_run: Callable[[Path, int], Any], tmp_path: Path, bucket: str
) -> None:
    on_disk = module_run(tmp_path / "demo", 12).everything()
    run = RunFolder.at(f"{bucket}/demo")
    filesystem, path = run.filesystem()
    fs.copy_files(str(on_disk.local_path), path, fs.LocalFileSystem(), filesystem)
    for stage in ("generate", "evaluate"):
        images = run.stage(stage) / "images"
        images.seal(images.listed())  # as the stages do
    outcomes = [write_report(ReportSettings(), each) for each in (on_disk, run)]
    assert outcomes[1].rows == outcomes[0].rows
    assert outcomes[1].rows["problems"] == 0
    pages = [each.stage("report").read_bytes(PAGE).decode() for each in (on_disk, run)]
    assert pages[1].replace(run.uri, on_disk.uri) == pages[0]
    place = on_disk.stage("report").local_path
    pictures = [path for path in place.rglob("*") if path.is_file() and path.name != PAGE]
    assert len(pictures) >= outcomes[0].rows["pictures"] > 0
    for path in pictures:
        assert run.stage("report").read_bytes(path.relative_to(place).as_posix()) == path.read_bytes()
