"""The preferences stage on a run folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.small_runs import small_run
from vp_ray.errors import InputError
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run
from vp_ray.records import ASPECTS, PREFERENCES, RATINGS
from vp_ray.storage import Manifest, RunFolder


def with_ratings(path: Path, images: int) -> RunFolder:
    """A run whose images are rated 5, 4, 3, ... within each prompt, the first `images` of each."""
    folder = small_run(path, prompts=5)
    made = (folder.stage("generate") / "images").read_table(".", ["image_id", "prompt_id", "generator", "seed"])
    rows = [
        {**row, "aspect": aspect, "mean": 5.0 - row["seed"], "standard_error": 0.4, "count": 2}
        for row in made.to_pylist()
        if row["seed"] < images
        for aspect in ASPECTS
    ]
    table = pa.Table.from_pylist([{key: row[key] for key in RATINGS.names} for row in rows], schema=RATINGS)
    folder.stage("annotate").write_table("ratings.parquet", table)
    folder.stage("annotate").finish(Manifest("annotate", {}, {}, {}, 0.0))
    return folder


def test_five_prompts_of_four_images_give_thirty_pairs_an_aspect(tmp_path: Path) -> None:
    folder = with_ratings(tmp_path, images=4)
    outcome = run(PreferenceSettings(), folder)
    table = folder.stage("preferences").read_table("preferences.parquet")
    assert table.schema.equals(PREFERENCES)
    assert outcome.rows == {"preferences": 150}
    assert outcome.figures["pairs_by_aspect"] == dict.fromkeys((*ASPECTS, "overall"), 30)
    assert outcome.figures["tie_share_by_aspect"]["overall"] == 0.0
    assert outcome.figures["same_generator_share"] == pytest.approx(1 / 3)
    assert outcome.figures["mean_level_by_generator"]["strong"]["fidelity"] == 4.0
    assert outcome.figures["mean_level_by_generator"]["weak"]["fidelity"] == 3.0
    assert sum(outcome.figures["preferences_by_split"].values()) == 150


def test_one_rated_image_a_prompt_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    folder = with_ratings(tmp_path, images=1)
    with pytest.raises(InputError, match="no prompt has two images"):
        run(PreferenceSettings(), folder)
    assert not folder.stage("preferences").exists("preferences.parquet")
