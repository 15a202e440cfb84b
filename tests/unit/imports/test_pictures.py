"""Pictures that nobody has judged: folders with captions, tables, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vp_ray.errors import InputError, SettingsError
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.job import run as run_import
from vp_ray.storage import RunFolder


def picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(path)


def imported(place: Path, path: Path, **settings: object) -> tuple[RunFolder, dict[str, int]]:
    run = RunFolder.at(place / "run")
    return run, run_import(ImportSettings.load({"kind": "images", "path": str(path), **settings}), run).rows


def test_a_folder_s_captions_are_prompts_and_equal_ones_share_a_group(tmp_path: Path) -> None:
    for name, prompt in (("a", "a red circle\n"), ("b", " a red circle"), ("c", "a cat")):
        picture(tmp_path / "own" / f"{name}.png", shade=ord(name))
        (tmp_path / "own" / f"{name}.txt").write_text(prompt)
    (tmp_path / "own" / "notes.md").write_text("not a picture")
    run, rows = imported(tmp_path, tmp_path / "own")
    assert rows == {"prompts": 2, "images": 3}
    images = (run.stage("import") / "images").read_table(".").to_pylist()
    assert sorted(row["prompt"] for row in images) == ["a cat", "a red circle", "a red circle"]
    assert len({row["prompt_id"] for row in images}) == 2
    assert all(
        row["image"]["bytes"].startswith(b"\x89PNG") and (row["width"], row["height"]) == (8, 6) for row in images
    )


def test_a_table_names_files_beside_it_and_generators(tmp_path: Path) -> None:
    picture(tmp_path / "sub" / "a.png")
    rows = [{"prompt": "x", "image": "sub/a.png", "generator": "sdxl"}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, _ = imported(tmp_path, tmp_path / "own.jsonl")
    (row,) = (run.stage("import") / "images").read_table(".").to_pylist()
    assert (row["generator"], row["prompt"], row["status"]) == ("sdxl", "x", "made")


def test_bad_rows_are_named_or_skipped_and_named(tmp_path: Path) -> None:
    picture(tmp_path / "own" / "good.png")
    (tmp_path / "own" / "good.txt").write_text("a cat")
    picture(tmp_path / "own" / "mute.png")
    with pytest.raises(InputError, match=r"mute\.png: the picture has no prompt\. Write it into mute\.txt"):
        imported(tmp_path / "one", tmp_path / "own")
    run, rows = imported(tmp_path / "two", tmp_path / "own", bad_rows="skip")
    assert rows == {"prompts": 1, "images": 1, "bad_rows": 1}
    assert b"mute.png" in run.stage("import").read_bytes("bad_rows.jsonl")
    (tmp_path / "empty.jsonl").write_text('{"prompt": " ", "image": "own/good.png"}\n')
    with pytest.raises(InputError, match="the prompt is"):
        imported(tmp_path / "three", tmp_path / "empty.jsonl")


def test_pictures_cannot_be_left_out() -> None:
    with pytest.raises(SettingsError, match="nothing without pictures"):
        ImportSettings.load({"kind": "images", "path": "x", "pictures": "none"})
