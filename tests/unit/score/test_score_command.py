"""`vp-ray score` takes files, patterns, CSV and Parquet; bad rows are named and stop no other."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests import tiny_models
from vp_ray.cli import main
from vp_ray.models.reward import VPScore
from vp_ray.models.scorers import SCORERS
from vp_ray.records import ASPECTS, IMAGE, OVERALL
from vp_ray.score import scoring

PROMPTS = ("a red circle", "two blue squares", "a small star")
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    """Runs a command: its exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def checkpoint(tiny_blip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "checkpoint"
    VPScore.from_backbone(str(tiny_blip), seed=1).save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three images of different sizes and formats."""
    rng = np.random.default_rng(3)
    paths = []
    for name, size in (("a.png", (32, 32)), ("b.jpg", (50, 40)), ("c.webp", (40, 70))):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def expected(checkpoint: Path, paths: list[Path], prompts: tuple[str, ...]) -> np.ndarray:
    return VPScore.from_pretrained(checkpoint).score_pictures([Image.open(path) for path in paths], prompts)


def numbers(rows: list[dict[str, object]]) -> np.ndarray:
    return np.array([[row[aspect] for aspect in ASPECTS] for row in rows])


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_files_folders_and_patterns_are_the_same_three_rows(said: Said, checkpoint: Path, pictures: list[Path]) -> None:
    folder = pictures[0].parent
    wanted = expected(checkpoint, pictures, (PROMPTS[0],) * 3)
    for inputs in (pictures, [folder], [folder / "*"], [f"{folder.parent}/**/?.*"]):
        code, out, err = said("score", checkpoint, *inputs, "--prompt", PROMPTS[0], "--json")
        assert (code, err) == (0, "")
        rows = lines(out)
        assert [row["image"] for row in rows] == [str(path) for path in pictures]
        np.testing.assert_allclose(numbers(rows), wanted, atol=1e-5)
        assert {row["status"] for row in rows} == {"scored"}


def test_a_table_is_printed_with_one_line_an_image(said: Said, checkpoint: Path, pictures: list[Path]) -> None:
    code, out, _ = said("score", checkpoint, pictures[0], "--prompt", PROMPTS[0])
    assert code == 0
    head, row = out.splitlines()[:2]
    assert head.split() == ["image", *ASPECTS, OVERALL] or "prompt_foll" in head
    assert "status" not in head
    assert f"{expected(checkpoint, pictures[:1], PROMPTS[:1])[0, 0]:.3f}" in out
    assert row


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("column", ["image", "path", "picture"])
def test_rows_of_a_csv_are_relative_to_its_folder(
    said: Said, checkpoint: Path, pictures: list[Path], tmp_path: Path, column: str
) -> None:
    rows = [
        {column: f"images/{path.name}", "prompt": prompt, "x": "1"}
        for path, prompt in zip(pictures, PROMPTS, strict=True)
    ]
    table = write_csv(tmp_path / "rows.csv", rows)
    words = ("--image-column", "picture") if column == "picture" else ()
    code, out, _ = said("score", checkpoint, table, "--json", "--batch", 2, *words)
    assert code == 0
    np.testing.assert_allclose(numbers(lines(out)), expected(checkpoint, pictures, PROMPTS), atol=1e-5)
    assert [row["place"] for row in lines(out)] == [f"{table}:{number}" for number in (2, 3, 4)]


@pytest.mark.parametrize("layout", ["struct", "bytes", "path"])
def test_rows_of_a_parquet_go_to_a_parquet(
    said: Said, checkpoint: Path, pictures: list[Path], tmp_path: Path, layout: str
) -> None:
    images: dict[str, pa.Array] = {
        "struct": pa.array([{"bytes": path.read_bytes(), "path": path.name} for path in pictures], IMAGE),
        "bytes": pa.array([path.read_bytes() for path in pictures], pa.binary()),
        "path": pa.array([f"images/{path.name}" for path in pictures]),
    }
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": images[layout], "prompt": list(PROMPTS)}), table)
    code, out, err = said("score", checkpoint, table, "--out", tmp_path / "made" / "scores.parquet")
    assert (code, out, err) == (0, "", "")
    rows = pq.read_table(tmp_path / "made" / "scores.parquet")
    assert rows.schema.names == [
        "image", "place", "prompt", *ASPECTS, OVERALL, "prompt_cut", "status", "reason",
    ]  # fmt: skip
    np.testing.assert_allclose(numbers(rows.to_pylist()), expected(checkpoint, pictures, PROMPTS), atol=1e-5)
    assert rows["prompt"].to_pylist() == list(PROMPTS)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["scores.parquet"]


def test_bad_rows_are_named_and_the_others_are_scored(
    said: Said, checkpoint: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "images" / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:200])
    large = io.BytesIO()
    Image.new("RGB", (900, 900)).save(large, "PNG")
    (tmp_path / "images" / "large.png").write_bytes(large.getvalue())
    monkeypatch.setattr(scoring, "MAX_PIXELS", 10_000)
    rows = [
        {"image": f"images/{name}", "prompt": prompt}
        for name, prompt in (
            ("a.png", PROMPTS[0]),
            ("broken.png", PROMPTS[0]),
            ("none.png", PROMPTS[0]),
            ("large.png", PROMPTS[0]),
            ("b.jpg", "  "),
            ("b.jpg", PROMPTS[1]),
        )
    ]
    rows.append({"image": "", "prompt": PROMPTS[0]})
    table = write_csv(tmp_path / "rows.csv", rows)
    code, _, err = said("score", checkpoint, table, "--out", tmp_path / "scores.jsonl", "--batch", 4)
    assert code == 1
    found = lines((tmp_path / "scores.jsonl").read_text())
    assert [row["status"] for row in found] == [
        "scored", "unreadable", "unreadable", "unreadable", "no_prompt", "scored", "unreadable",
    ]  # fmt: skip
    assert found[1]["overall"] is None
    assert found[1]["aesthetic"] is None
    reasons = [str(row["reason"]) for row in found]
    assert reasons[2] == "there is no such file"
    assert "900 x 900 pixels" in reasons[3]
    good = [found[0], found[5]]
    np.testing.assert_allclose(numbers(good), expected(checkpoint, pictures[:2], PROMPTS[:2]), atol=1e-5)
    assert "5 of 7 rows were not scored (4 unreadable, 1 no_prompt)" in err
    assert f"{table}:3: this cannot be read as an image" in err


def test_scores_that_are_no_numbers_are_a_status_and_never_a_zero(
    said: Said, tiny_blip: Path, pictures: list[Path], tmp_path: Path
) -> None:
    model = VPScore.from_backbone(str(tiny_blip))
    model.head[-1].bias.data[0] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    code, out, err = said("score", tmp_path / "broken", pictures[0], "--prompt", PROMPTS[0], "--json")
    assert code == 2
    assert lines(out)[0]["status"] == "not_finite"
    assert "none of 1 rows could be scored" in err


def test_prompts_that_were_cut_are_marked_and_counted(
    said: Said, checkpoint: Path, pictures: list[Path], tmp_path: Path
) -> None:
    rows = [{"image": "images/a.png", "prompt": prompt} for prompt in (PROMPTS[0], "red " * 60)]
    code, out, err = said("score", checkpoint, write_csv(tmp_path / "rows.csv", rows), "--json")
    assert code == 0
    assert [row["prompt_cut"] for row in lines(out)] == [False, True]
    assert "1 of 2 prompts are longer than 24 tokens" in err


def test_any_scorer_scores_and_one_that_reads_no_prompt_needs_none(
    said: Said, pictures: list[Path], tmp_path: Path
) -> None:
    import torch

    from tests.published_scorers import linear_head_weights

    clip = tiny_models.clip_model(tmp_path)
    code, out, _ = said("score", f"pickscore:{clip}", *pictures, "--prompt", PROMPTS[0], "--json")
    assert code == 0
    assert [row["pickscore"] == row["overall"] for row in lines(out)] == [True] * 3
    torch.save(linear_head_weights(24), tmp_path / "head.pth")
    code, out, _ = said("score", f"aesthetic:{tmp_path / 'head.pth'},clip={clip}", *pictures, "--json")
    assert code == 0
    assert all(isinstance(row["aesthetic"], float) for row in lines(out))


def test_what_cannot_begin_is_one_sentence_with_code_2(
    said: Said, checkpoint: Path, pictures: list[Path], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    table = write_csv(tmp_path / "rows.csv", [{"picture": "a.png", "prompt": "x"}])
    (tmp_path / "none.csv").write_text("image,prompt\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    prompt = ("--prompt", "x")
    for words, sentence in (
        ((checkpoint, pictures[0]), "image files have no prompt of their own"),
        ((checkpoint, f"{tmp_path}/*.gif", *prompt), "no file has such a name"),
        ((checkpoint, empty, *prompt), "the folder holds no PNG"),
        ((checkpoint, tmp_path / "nowhere.png", *prompt), "there is no such file; none of 1 rows"),
        ((checkpoint, tmp_path / "nowhere.csv"), "there is no such file"),
        ((checkpoint, table), "there is no column 'image' among picture, prompt"),
        ((checkpoint, table, "--image-column", "picture", "--prompt-column", "words"), "no column 'words'"),
        ((checkpoint, tmp_path / "none.csv"), "there is no row to score"),
        ((checkpoint, tmp_path / "broken.parquet"), "the table cannot be read"),
        ((checkpoint, pictures[0], *prompt, "--out", tmp_path / "scores.xlsx"), "the suffix '.xlsx' is not known"),
        ((checkpoint, pictures[0], *prompt, "--out", tmp_path / "s.jsonl", "--json"), "--json has no effect"),
        ((checkpoint, pictures[0], *prompt, "--image-column", "x"), "there is no table whose columns"),
        (("picscore:x", pictures[0], *prompt), "there is no scorer 'picscore'"),
    ):
        code, out, err = said("score", *words)
        assert code == 2, words
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
        assert out == ""


def test_the_help_names_every_scorer(said: Said) -> None:
    code, out, _ = said("score", "--help")
    assert code == 0
    assert all(kind in out for kind in SCORERS)
