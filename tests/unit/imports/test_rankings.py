import json
from pathlib import Path

import pytest
from PIL import Image

from vp_ray.errors import InputError
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.job import run as run_import
from vp_ray.storage import RunFolder


def write_data_set(folder: Path, rows: list[dict[str, object]]) -> Path:
    (folder / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 20), (number * 80, 0, 0)).save(folder / "images" / f"{number}.png")
    path = folder / "rankings.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


ROW = {"prompt": "a cat", "images": ["0.png", "1.png", "2.png"], "ranks_by_annotator": [[1, 2, 3], [2, 1, 2]]}


def test_rankings_become_prompts_images_and_one_row_a_rank(tmp_path: Path) -> None:
    path = write_data_set(tmp_path, [ROW])
    run = RunFolder.at(tmp_path / "run")
    outcome = run_import(ImportSettings(kind="rankings", path=str(path)), run)
    assert outcome.rows == {"prompts": 1, "images": 3, "ranks": 6}
    ranks = run.stage("import").read_table("rankings.parquet").to_pylist()
    images = {row["image_id"]: row["image"]["path"] for row in run.stage("import").read_table("images").to_pylist()}
    assert [(row["rater"], images[row["image_id"]], row["rank"]) for row in ranks] == [
        ("0", "0.png", 1),
        ("0", "1.png", 2),
        ("0", "2.png", 3),
        ("1", "0.png", 2),
        ("1", "1.png", 1),
        ("1", "2.png", 2),
    ]


def test_image_files_are_kept_byte_for_byte(tmp_path: Path) -> None:
    path = write_data_set(tmp_path, [ROW])
    run = RunFolder.at(tmp_path / "run")
    run_import(ImportSettings(kind="rankings", path=str(path)), run)
    for row in run.stage("import").read_table("images").to_pylist():
        assert row["image"]["bytes"] == (tmp_path / "images" / row["image"]["path"]).read_bytes()
        assert (row["width"], row["height"]) == (40, 20)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"prompt": "a", "images": ["0.png"]},
            r"rankings\.jsonl:1: the row cannot be used \(KeyError: 'ranks_by_annotator'\)",
        ),
        ({"prompt": "a", "images": ["0.png"], "ranks_by_annotator": [[1, 2]]}, "another number of images"),
        ({"prompt": "a", "images": ["0.png"], "ranks_by_annotator": [["x"]]}, "cannot be used"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: dict[str, object], said: str) -> None:
    path = write_data_set(tmp_path, [row])
    with pytest.raises(InputError, match=said):
        run_import(ImportSettings(kind="rankings", path=str(path)), RunFolder.at(tmp_path / "run"))


@pytest.mark.parametrize(
    ("content", "said"), [(None, "there is no such image"), (b"not a picture", "cannot be read as an image")]
)
def test_a_missing_or_unreadable_image_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = write_data_set(tmp_path, [ROW])
    picture = tmp_path / "images" / "1.png"
    if content is None:
        picture.unlink()
    else:
        picture.write_bytes(content)
    with pytest.raises(InputError, match=rf"1\.png: .*{said}"):
        run_import(ImportSettings(kind="rankings", path=str(path)), RunFolder.at(tmp_path / "run"))


def test_without_the_file_the_error_says_which_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Set `import\.path`"):
        run_import(ImportSettings(kind="rankings", path=str(tmp_path / "none.jsonl")), RunFolder.at(tmp_path / "run"))
