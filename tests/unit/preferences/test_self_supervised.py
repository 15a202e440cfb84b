"""Self-supervised pairs: what augmentations do, which edits a prompt allows, and that the judge sees the order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.small_runs import small_run
from vp_ray.errors import SettingsError
from vp_ray.models.preparation import Preparation
from vp_ray.pictures import decode_image
from vp_ray.preferences.augmentations import AUGMENTATIONS, edits, swapped
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run
from vp_ray.records import ASPECTS, IMAGES, PREFERENCES, SELF_SUPERVISED
from vp_ray.reward.data import read_data
from vp_ray.shapeworld.judgement import score_images
from vp_ray.shapeworld.render import arrange, render
from vp_ray.shapeworld.scenes import parse_prompt
from vp_ray.storage import Manifest, RunFolder


def scene_picture(prompt: str, seed: int) -> np.ndarray:
    return render(arrange(parse_prompt(prompt), np.random.default_rng(seed)))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(32, 32, 3), (17, 40, 3)])
def test_each_augmentation_keeps_shape_and_type_changes_the_picture_and_depends_on_its_seed_alone(
    name: str, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = pixels.copy()
    one, other = (AUGMENTATIONS[name].apply(pixels, 0.7, np.random.default_rng(3)) for _ in range(2))
    assert (one.shape, one.dtype) == (shape, np.uint8)
    assert not np.array_equal(one, pixels)
    assert np.array_equal(one, other)
    assert np.array_equal(pixels, before)


def test_a_strong_layout_leaves_no_quarter_in_its_place_and_loses_none() -> None:
    pixels = np.repeat(np.repeat(np.array([[1, 2], [3, 4]], np.uint8), 8, 0), 8, 1)[..., None].repeat(3, 2)
    for seed in range(8):
        corners = AUGMENTATIONS["layout"].apply(pixels, 1.0, np.random.default_rng(seed))[4::8, 4::8, 0].ravel()
        assert sorted(corners.tolist()) == [1, 2, 3, 4]
        assert not (corners == [1, 2, 3, 4]).any()


def test_words_are_swapped_whole_both_ways_and_keep_their_capital() -> None:
    assert swapped("Left of the leftover, right", "left", "right") == "Right of the leftover, left"


def test_a_prompt_allows_the_edits_that_its_words_name() -> None:
    texts = {edit.prompt for edit in edits("a red circle left of a blue square")}
    assert "a red circle right of a blue square" in texts
    assert "a blue circle left of a red square" in texts
    assert "a green circle left of a blue square" in texts
    assert edits("a cat on a mat") == []
    # Yellow would change with red, so that no colour is swapped; mirroring is still possible.
    assert {edit.prompt for edit in edits("a red cat left of a yellow one")} == {"a red cat right of a yellow one"}


@pytest.mark.parametrize(
    "prompt", ["a red circle left of a blue square", "a large green square", "a blue triangle right of a red circle"]
)
def test_the_judge_sees_that_an_edited_picture_fits_the_edited_prompt_and_not_its_own(prompt: str) -> None:
    picture = scene_picture(prompt, seed=4)
    for edit in edits(prompt):
        changed = np.ascontiguousarray(edit.apply(picture))
        own, edited = (score_images(np.stack([picture, changed]), [text] * 2)[:, 0] for text in (prompt, edit.prompt))
        assert own[0] > own[1]
        assert edited[1] > edited[0]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_judge_sees_the_known_order_in_nearly_every_augmented_render(name: str) -> None:
    prompts = [
        "a red circle left of a blue square",
        "two green squares",
        "a large yellow triangle",
        "a cyan circle",
    ] * 5
    pictures = np.stack([scene_picture(prompt, seed) for seed, prompt in enumerate(prompts)])
    augmentation = AUGMENTATIONS[name]
    worse = np.stack([augmentation.apply(one, 0.9, np.random.default_rng(n)) for n, one in enumerate(pictures)])
    before, after = score_images(pictures, prompts), score_images(worse, prompts)
    chosen = [ASPECTS.index(aspect) for aspect in augmentation.worse]
    right = (before[:, chosen] > after[:, chosen]).mean()
    wrong = (before[:, chosen] < after[:, chosen]).mean()
    assert right > 0.6
    assert wrong < 0.15


def unjudged(path: Path, prompts: int = 10, **settings: Any) -> tuple[RunFolder, list[dict[str, Any]]]:
    """A run without annotators, and its self-supervised preferences."""
    folder = small_run(path, prompts=prompts)
    loaded = PreferenceSettings.load({"annotated": False, "self_supervised": settings})
    outcome = run(loaded, folder)
    folder.stage("preferences").finish(Manifest("preferences", {}, {}, outcome.rows, 0.0, figures=outcome.figures))
    table = folder.stage("preferences").read_table("preferences.parquet")
    assert table.schema.equals(PREFERENCES)
    return folder, table.to_pylist()


def test_a_run_without_annotators_gets_pairs_of_every_kind_with_their_pictures(tmp_path: Path) -> None:
    folder, rows = unjudged(tmp_path, images_per_prompt=4, pairs_per_image=7)
    kinds = folder.stage("preferences").finished().figures["self_supervised_pairs"]
    assert set(kinds) == {*AUGMENTATIONS, "other_prompt", "edited_prompt"}
    assert {row["source"] for row in rows} == {SELF_SUPERVISED}
    assert {row["weight"] for row in rows} == {0.5}
    assert {round(row["probability_a"], 6) for row in rows} == {0.1, 0.5, 0.9}
    assert len({row["preference_id"] for row in rows}) == len(rows)
    constructed = folder.stage("preferences").read_table("images")
    assert constructed.schema.equals(IMAGES)
    known = {*constructed["image_id"].to_pylist()}
    known |= {*folder.stage("generate").read_table("images")["image_id"].to_pylist()}
    assert {row[side] for row in rows for side in ("image_id_a", "image_id_b")} <= known
    assert all(decode_image(image["bytes"]).shape == (32, 32, 3) for image in constructed["image"].to_pylist())


def test_the_better_side_is_the_original(tmp_path: Path) -> None:
    folder, rows = unjudged(tmp_path, kinds=["noise"], images_per_prompt=4)
    originals = set(folder.stage("generate").read_table("images")["image_id"].to_pylist())
    decided = [row for row in rows if row["probability_a"] != 0.5]
    assert all((row["probability_a"] > 0.5) == (row["image_id_a"] in originals) for row in decided)
    assert Counter(row["aspect"] for row in rows) == dict.fromkeys(
        ("aesthetic", "fidelity", "overall", "harmlessness"), 10 * 4
    )
    assert {row["aspect"] for row in rows if row["probability_a"] == 0.5} == {"harmlessness"}


def test_images_of_another_prompt_are_of_the_same_split_and_need_no_new_picture(tmp_path: Path) -> None:
    folder, rows = unjudged(tmp_path, kinds=["other_prompt"])
    assert not folder.stage("preferences").exists("images")
    images = folder.stage("generate").read_table("images").to_pylist()
    prompt_of = {row["image_id"]: row["prompt_id"] for row in images}
    prompts = folder.stage("prompts").read_table("prompts.parquet").to_pylist()
    split_of = {row["prompt_id"]: row["split"] for row in prompts}
    for row in rows:
        better, worse = row["image_id_a"], row["image_id_b"]
        if row["probability_a"] < 0.5:
            better, worse = worse, better
        assert prompt_of[better] == row["prompt_id"] != prompt_of[worse]
        assert split_of[prompt_of[worse]] == row["split"]


def test_an_edited_prompt_of_another_split_is_left_out(tmp_path: Path) -> None:
    folder = small_run(tmp_path, prompts=10)
    prompts = folder.stage("prompts").read_table("prompts.parquet")
    rows = prompts.to_pylist()
    allowed = [row for row in rows if edits(row["prompt"])]
    leaks = [
        row | {"prompt_id": f"x{n}-{k}", "prompt": edit.prompt, "split": "secret"}
        for n, row in enumerate(allowed)
        for k, edit in enumerate(edits(row["prompt"])[1:])
    ]
    table = pa.Table.from_pylist(rows + leaks, schema=prompts.schema)
    folder.stage("prompts").write_table("prompts.parquet", table)
    settings = {"kinds": ["edited_prompt"], "images_per_prompt": 4}
    run(PreferenceSettings.load({"annotated": False, "self_supervised": settings}), folder)
    made = set(folder.stage("preferences").read_table("preferences.parquet")["prompt"].to_pylist())
    assert made
    assert not made & {row["prompt"] for row in leaks}


def test_what_is_made_does_not_depend_on_the_order_of_the_images(tmp_path: Path) -> None:
    one, rows = unjudged(tmp_path / "one")
    other = small_run(tmp_path / "other", prompts=10)
    parts = [other.stage("generate").read_table(f"images/{name}.parquet") for name in ("strong", "weak")]
    together = pa.concat_tables(parts).take(np.random.default_rng(1).permutation(40))
    other.stage("generate").write_table("images/strong.parquet", together)
    other.stage("generate").delete("images/weak.parquet")
    run(PreferenceSettings.load({"annotated": False, "self_supervised": {}}), other)
    assert other.stage("preferences").read_table("preferences.parquet").to_pylist() == rows
    images = [
        sorted(folder.stage("preferences").read_table("images")["image_id"].to_pylist()) for folder in (one, other)
    ]
    assert images[0] == images[1]


def test_the_reward_stage_learns_from_both_and_validates_on_what_was_annotated(tmp_path: Path) -> None:
    from tests.unit.preferences.test_quality import judged_run

    folder = judged_run(tmp_path, prompts=12)
    run(PreferenceSettings.load({"self_supervised": {"images_per_prompt": 2}}), folder)
    data = read_data(folder, Preparation(32))
    assert data.aspects == ASPECTS
    training, validation = data.split(0.5, seed=0)
    assert any(group.constructed for group in training)
    assert not any(group.constructed for group in validation)
    assert all(len(group.images) == 4 and len(group.pairs) == 6 * 5 for group in validation)
    assert any(len(group.images) > 4 for group in training)
    weights = {pair[4] for group in training for pair in group.pairs}
    assert weights == {0.5, 1.0}


def test_without_annotators_validation_is_by_the_constructed_pairs(tmp_path: Path) -> None:
    folder, _ = unjudged(tmp_path, prompts=20)
    _, validation = read_data(folder, Preparation(32)).split(0.3, seed=0)
    assert all(group.constructed for group in validation)


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="`self_supervised` must be set"):
        PreferenceSettings.load({"annotated": False})
