"""Pairs that are made some prompts at a time are those that are made at once."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vp_ray.ids import content_id
from vp_ray.preferences import pairing
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.pairing import make_preferences, preference_parts
from vp_ray.preferences.tally import Tally
from vp_ray.records import ASPECTS, RATINGS
from vp_ray.storage import Folder
from vp_ray.streams import encoded_table

PROMPTS = pa.table(
    {
        "prompt_id": [f"p{n:02d}" for n in range(40)],
        "prompt": [f"prompt {n}" for n in range(40)],
        "split": ["held_out" if n % 5 == 0 else "train" for n in range(40)],
    }
)


def ratings() -> pa.Table:
    """One to six images a prompt, some without a rating of an aspect, rows in a shuffled order."""
    rng = np.random.default_rng(3)
    rows = [
        {
            "image_id": content_id("image", prompt, image),
            "prompt_id": f"p{prompt:02d}",
            "generator": ("weak", "strong", "other")[(prompt + image) % 3],
            "aspect": aspect,
            "mean": float(np.round(rng.uniform(1, 5), 1)),
            "standard_error": 0.4,
            "count": 2,
        }
        for prompt in range(40)
        for image in range(1 + prompt % 6)
        for aspect in ASPECTS
        if rng.random() > 0.03
    ]
    return pa.Table.from_pylist([rows[place] for place in rng.permutation(len(rows))], schema=RATINGS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"balance_generators": True, "same_generator_share": 0.3, "pairs_per_prompt": 4},
        {"harmlessness_veto": 2.5, "keep_ties": False, "abstention_weight": 0.2},
    ],
)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_rows_do_not_depend_on_the_size_of_a_part(
    changes: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PreferenceSettings.load(changes)
    whole = make_preferences(ratings(), PROMPTS, settings)
    monkeypatch.setattr(pairing, "_IMAGES_A_PART", size)
    monkeypatch.setattr(pairing, "_PAIRS_A_PART", 5 * size)
    parts = list(preference_parts(ratings(), PROMPTS, settings))
    assert len(parts) > 1
    assert pa.concat_tables(parts).equals(whole)


def test_ratings_with_strings_as_dictionaries_give_the_same_rows_also_after_a_filter(tmp_path: Path) -> None:
    folder, settings = Folder.at(tmp_path), PreferenceSettings()
    folder.write_table("ratings.parquet", ratings(), RATINGS)
    encoded = encoded_table(folder, "ratings.parquet")
    assert pa.types.is_dictionary(encoded.schema.field("image_id").type)
    assert make_preferences(encoded, PROMPTS, settings).equals(make_preferences(ratings(), PROMPTS, settings))
    few = [pa.compute.less(table["prompt_id"].cast(pa.string()), "p20") for table in (encoded, ratings())]
    assert make_preferences(encoded.filter(few[0]), PROMPTS, settings).equals(
        make_preferences(ratings().filter(few[1]), PROMPTS, settings)
    )


def test_a_tally_of_parts_counts_what_the_whole_holds() -> None:
    table = make_preferences(ratings(), PROMPTS, PreferenceSettings(abstention_weight=0.5))
    tally = Tally()
    for start in range(0, table.num_rows, 17):
        tally.add(table.slice(start, 17))
    rows, figures = table.to_pylist(), tally.figures()
    assert tally.rows == len(rows)
    fidelity = [row for row in rows if row["aspect"] == "fidelity"]
    assert figures["pairs_by_aspect"]["fidelity"] == len(fidelity)
    ties = sum(row["probability_a"] == 0.5 for row in fidelity)
    assert figures["tie_share_by_aspect"]["fidelity"] == ties / len(fidelity)
    assert figures["abstentions"] == sum(row["margin"] is None for row in rows) > 0
    assert figures["same_generator_share"] == sum(row["same_generator"] for row in rows) / len(rows)
    assert list(figures["preferences_by_split"]) == ["held_out", "train"]


STAGE = """
import sys
import pyarrow as pa
from vp_ray import streams
from vp_ray.preferences import pairing
from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.job import run
from vp_ray.storage import RunFolder
pairing._IMAGES_A_PART, streams.ROW_GROUP = 1 << 11, 1 << 14
def stage(prompts):
    made = RunFolder.at(f"{sys.argv[1]}/{prompts}")
    rows = run(PreferenceSettings.load({"checks": {"predictor_prompts": 0}}), made).rows["preferences"]
    return rows, pa.default_memory_pool().max_memory()
few, before = stage(1000)
many, after = stage(6000)
print((after - before) / (many - few))
"""


def test_a_pair_more_takes_half_of_the_memory_of_a_table_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks" / "parts")
    write_rated_run = import_module("synthetic_run").write_rated_run
    for prompts in (1000, 6000):
        write_rated_run(tmp_path / str(prompts), prompts)
    told = subprocess.run([sys.executable, "-c", STAGE, str(tmp_path)], check=True, capture_output=True, text=True)
    # A row of strings has 350 bytes; a whole table, its cast and its file would be 1,100 a row.
    assert float(told.stdout.splitlines()[-1]) < 600
