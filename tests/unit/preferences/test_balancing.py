"""Weights and caps: generators that win as much as they lose, shares of pairs within one, most pairs a prompt."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.pairing import make_preferences
from vp_ray.records import ASPECTS, RATINGS


def rated(prompts: int, images: int = 4, edge: float = 0.8, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Ratings of images by two generators, of which `strong` is better by `edge` levels, and their prompts."""
    rng = np.random.default_rng(seed)
    rows = []
    for prompt in range(prompts):
        for place in range(images):
            generator = ("strong", "weak")[place % 2]
            for aspect in ASPECTS:
                mean = 3 + edge * (generator == "strong") + rng.normal(0, 1.0)
                row = {"image_id": f"{prompt:04d}-{rng.integers(1 << 40):010x}-{place}", "prompt_id": str(prompt)}
                rows.append(row | {"generator": generator, "aspect": aspect, "mean": mean})
    for start in range(0, len(rows), 4):
        for row in rows[start : start + 4]:
            row |= {"image_id": rows[start]["image_id"], "standard_error": 0.4, "count": 2}
    names = [str(prompt) for prompt in range(prompts)]
    texts = pa.table({"prompt_id": names, "prompt": names, "split": ["train"] * prompts})
    return pa.Table.from_pylist(rows, schema=RATINGS), texts


def rows_of(settings: PreferenceSettings, **arguments: float) -> list[dict]:
    ratings, prompts = rated(**arguments)
    generator = dict(zip(ratings["image_id"].to_pylist(), ratings["generator"].to_pylist(), strict=True))
    rows = make_preferences(ratings, prompts, settings).to_pylist()
    for row in rows:
        row["a"], row["b"] = generator[row["image_id_a"]], generator[row["image_id_b"]]
    return rows


def advantage(rows: list[dict]) -> float:
    """The weighted mean of P(strong is better) - 1/2 over pairs of the two generators."""
    crossing = [row for row in rows if row["a"] != row["b"]]
    lean = sum((row["probability_a"] - 0.5) * row["weight"] * (1 if row["a"] == "strong" else -1) for row in crossing)
    return lean / sum(row["weight"] for row in crossing)


def test_balanced_generators_win_as_much_as_they_lose() -> None:
    plain = rows_of(PreferenceSettings(), prompts=60)
    balanced = rows_of(PreferenceSettings(balance_generators=True), prompts=60)
    assert advantage(plain) > 0.1
    for aspect in (*ASPECTS, "overall"):
        assert advantage([row for row in balanced if row["aspect"] == aspect]) == pytest.approx(0, abs=1e-9)
    same = [row["weight"] for row in balanced if row["same_generator"]]
    assert set(same) == {1.0}
    key = [(row["preference_id"], row["probability_a"]) for row in plain]
    assert key == [(row["preference_id"], row["probability_a"]) for row in balanced]


def test_no_weight_passes_the_limit_and_sides_are_still_equal() -> None:
    rows = rows_of(PreferenceSettings(balance_generators=True, balance_limit=2.0), prompts=80, edge=1.0)
    fidelity = [row for row in rows if row["aspect"] == "fidelity"]
    assert max(row["weight"] for row in fidelity) == pytest.approx(2.0)
    assert advantage(fidelity) == pytest.approx(0, abs=1e-9)


def test_a_generator_that_always_wins_keeps_its_weights() -> None:
    rows = rows_of(PreferenceSettings(balance_generators=True), prompts=5, edge=50.0)
    assert {row["weight"] for row in rows} == {1.0}


def test_pairs_within_one_generator_get_their_share_of_an_unchanged_sum() -> None:
    rows = rows_of(PreferenceSettings(same_generator_share=0.5), prompts=10)
    overall = [row for row in rows if row["aspect"] == "overall"]
    total = sum(row["weight"] for row in overall)
    assert total == pytest.approx(len(overall))
    assert sum(row["weight"] for row in overall if row["same_generator"]) == pytest.approx(total / 2)


def test_a_cap_keeps_whole_pairs_and_the_same_ones_when_it_grows() -> None:
    few, more = (rows_of(PreferenceSettings(pairs_per_prompt=most), prompts=12) for most in (2, 4))
    pairs = Counter((row["prompt_id"], row["image_id_a"], row["image_id_b"]) for row in few)
    assert set(pairs.values()) == {5}
    assert set(Counter(prompt for prompt, *_ in pairs).values()) == {2}
    assert {row["preference_id"] for row in few} < {row["preference_id"] for row in more}
