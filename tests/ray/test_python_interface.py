"""`vp_ray.api`: the snippets of docs/python.md as they stand, one after the other, and what is refused."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vp_ray.api import annotate, score, train_reward
from vp_ray.errors import InputError, StorageError
from vp_ray.records import ASPECTS, OVERALL
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import all_scenes, prompt_of

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
PROMPTS, IMAGES = 20, 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page supposes: `pictures` with their prompts, `pairs.csv` and `prompts.txt`; the first image is the
    cleaner one."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "pictures").mkdir()
    scenes = list(all_scenes())[7 :: 6000 // PROMPTS][:PROMPTS]
    rows = []
    for number, scene in enumerate(scenes):
        for side in range(IMAGES):
            rng = np.random.default_rng([number, side])
            pixels = render(arrange(scene, rng)) + rng.normal(0, 40 * side, (32, 32, 3))
            name = f"pictures/{IMAGES * number + side}"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
            (folder / f"{name}.txt").write_text(prompt_of(scene) + "\n")
        images = (f"pictures/{IMAGES * number}.png", f"pictures/{IMAGES * number + 1}.png")
        rows.append({"prompt": prompt_of(scene), "image_a": images[0], "image_b": images[1], "answer": "a"})
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "prompts.txt").write_text("".join(f"{row['prompt']}\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def told(place: Path, local_ray: None) -> dict[str, Any]:
    """The names that the snippets leave behind, run in order in that folder."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for snippet in SNIPPETS:
            exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102 - the page's own code
    return names


def test_each_snippet_has_about_ten_lines() -> None:
    assert len(SNIPPETS) == 4
    assert max(len(snippet.strip().splitlines()) for snippet in SNIPPETS) <= 15


def test_a_folder_is_judged_and_the_cleaner_image_of_a_prompt_is_preferred(told: dict[str, Any]) -> None:
    judged = told["judged"]
    assert judged.ratings.num_rows == PROMPTS * IMAGES * len(ASPECTS)
    assert judged.judgements.num_rows == PROMPTS * 2
    rows = [row for row in judged.ratings.to_pylist() if row["aspect"] == "fidelity"]
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row["mean"])
    assert all(len(levels) == IMAGES for levels in by_prompt.values())
    assert {row["aspect"] for row in judged.preferences.to_pylist()} == {*ASPECTS, OVERALL}
    assert judged.cost_usd == 0.0
    assert judged.figures["traffic"] is not None


def test_own_pairs_become_a_scorer_with_one_column(told: dict[str, Any], place: Path) -> None:
    trained = told["trained"]
    assert trained.accuracy[OVERALL]["pairs"] > 0
    assert set(told["rows"][0]) == {OVERALL}
    same = score([Image.open(place / "pictures/0.png")], ["a large red circle"], trained.checkpoint)
    assert same[0] == pytest.approx(told["rows"][0], abs=1e-5)  # alone, where it was in a batch


def test_the_tuned_pipeline_draws_and_its_adapter_is_there(told: dict[str, Any], place: Path) -> None:
    tuned = told["tuned"]
    assert Image.open(place / "tuned.png").size == (32, 32)
    assert (tuned.adapter / "pytorch_lora_weights.safetensors").is_file()
    assert tuned.figures["epochs"] == 2
    assert tuned.figures["held_out_best"] is not None


def test_the_same_call_returns_at_once_and_another_is_refused(told: dict[str, Any], place: Path) -> None:
    judge = {"name": "judge", "model": "shapeworld-judge", "base_url": "embedded"}
    again = annotate(place / "pictures", judge, run=place / "runs/judged", orders=2)
    assert again.ratings.equals(told["judged"].ratings)
    with pytest.raises(StorageError, match="orders: 2 -> 4"):
        annotate(place / "pictures", judge, run=place / "runs/judged", orders=4)


def test_other_rows_in_memory_are_not_taken_for_those_of_before(tmp_path: Path, place: Path) -> None:
    row = {"prompt": "a", "image_a": place / "pictures/0.png", "image_b": tmp_path / "none.png", "answer": "a"}
    with pytest.raises(InputError, match="no such image"):
        train_reward([row], run=tmp_path / "run")
    with pytest.raises(StorageError, match=r"other settings: settings\.path"):
        train_reward([{**row, "answer": "b"}], run=tmp_path / "run")


def test_what_cannot_be_read_is_named(tmp_path: Path, place: Path) -> None:
    judge = {"name": "judge", "model": "shapeworld-judge", "base_url": "embedded"}
    (tmp_path / "bare").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "bare" / "alone.png")
    with pytest.raises(InputError, match=r"alone\.png: the picture has no prompt"):
        annotate(tmp_path / "bare", judge, run=tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no PNG, JPEG or WebP"):
        annotate(tmp_path / "empty", judge, run=tmp_path / "two")
    with pytest.raises(InputError, match=r"none\.png: there is no such image"):
        annotate({"a circle": [tmp_path / "none.png"]}, judge, run=tmp_path / "three")
    with pytest.raises(InputError, match="2 pictures and 1 prompts"):
        score(["a.png", "b.png"], ["a"], "runs/none")
