"""Tables become groups: each image once, each label in its place, nothing unreadable in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vp_ray.errors import InputError, StorageError
from vp_ray.models.preparation import Preparation
from vp_ray.records import ASPECTS, OVERALL
from vp_ray.reward.data import Group, build_data, read_data
from vp_ray.storage import RunFolder

Write = Callable[..., RunFolder]


def test_each_image_is_there_once_and_each_pair_has_its_label(tmp_path: Path, bright_run: Write) -> None:
    data = read_data(bright_run(tmp_path, 3), Preparation(32))
    assert data.images.shape == (12, 32, 32, 3)
    assert data.aspects == ASPECTS
    assert [group.images.tolist() for group in data.groups] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    probability, weight = data.groups[0].labels(ASPECTS, 4)
    assert weight.sum() == 6 * len(ASPECTS)
    assert probability[2, 0, 3] == pytest.approx(1 / (1 + np.exp(6)), abs=1e-6)
    brightness = data.images[data.groups[1].images].mean(axis=(1, 2, 3))
    assert brightness.argsort().tolist() == [3, 0, 1, 2]


def test_labels_are_padded_with_weight_zero() -> None:
    group = Group("p", "a red circle", np.array([0, 1]), (("fidelity", 1, 0, 0.9, 2.0),))
    probability, weight = group.labels(("aesthetic", "fidelity"), 3)
    assert weight.sum() == 2.0
    assert (probability[1, 1, 0], weight[1, 1, 0]) == (pytest.approx(0.9), 2.0)


def test_overall_is_trained_only_where_nothing_else_is_labelled(tmp_path: Path, bright_run: Write) -> None:
    assert read_data(bright_run(tmp_path / "both", 2, ("fidelity", OVERALL)), Preparation(32)).aspects == ("fidelity",)
    assert read_data(bright_run(tmp_path / "one", 2, (OVERALL,)), Preparation(32)).aspects == (OVERALL,)


def test_a_prompt_is_for_training_or_validation_whatever_the_others_are(tmp_path: Path, bright_run: Write) -> None:
    few, many = (read_data(bright_run(tmp_path / str(count), count), Preparation(32)) for count in (20, 40))
    held = {group.prompt_id for group in many.split(0.25, 0)[1]}
    assert {group.prompt_id for group in few.split(0.25, 0)[1]} == held & {group.prompt_id for group in few.groups}
    training, validation = many.split(0.25, 0)
    assert len(training) + len(validation) == 40
    assert 4 <= len(validation) <= 16
    assert held != {group.prompt_id for group in many.split(0.25, 1)[1]}


def test_images_are_fitted_to_the_models_side(tmp_path: Path, bright_run: Write) -> None:
    assert read_data(bright_run(tmp_path, 1), Preparation(16)).images.shape == (4, 16, 16, 3)


def tables(run: RunFolder) -> tuple[pa.Table, pa.Table]:
    return run.stage("preferences").read_table("preferences.parquet"), run.stage("generate").read_table("images")


def test_pairs_of_no_weight_are_left_out_and_none_at_all_is_an_error(tmp_path: Path, bright_run: Write) -> None:
    preferences, images = tables(bright_run(tmp_path, 2))
    rows = preferences.to_pylist()
    for row in rows:
        row["weight"] = 0.0 if row["prompt_id"] == "prompt-000" else 1.0
    data = build_data(pa.Table.from_pylist(rows, schema=preferences.schema), images, Preparation(32))
    assert [group.prompt_id for group in data.groups] == ["prompt-001"]
    assert len(data.images) == 4
    with pytest.raises(InputError, match="no preference to learn from"):
        build_data(preferences.slice(0, 0), images, Preparation(32))


def test_an_image_that_was_not_made_or_cannot_be_read_is_named(tmp_path: Path, bright_run: Write) -> None:
    preferences, images = tables(bright_run(tmp_path, 2))
    with pytest.raises(InputError, match="image-001-3, which was not made"):
        build_data(preferences, images.slice(0, 7), Preparation(32))
    rows = images.to_pylist()
    rows[5]["image"]["bytes"] = rows[5]["image"]["bytes"][:60]
    with pytest.raises(InputError, match="image-001-1: the image cannot be read"):
        build_data(preferences, pa.Table.from_pylist(rows, schema=images.schema), Preparation(32))


def test_too_few_prompts_to_split_and_a_missing_stage_are_told(tmp_path: Path, bright_run: Write) -> None:
    with pytest.raises(InputError, match="left for training"):
        read_data(bright_run(tmp_path / "one", 1), Preparation(32)).split(0.1, 0)
    with pytest.raises(StorageError, match="Run the stage that makes it first"):
        read_data(RunFolder.at(tmp_path / "none"), Preparation(32))
