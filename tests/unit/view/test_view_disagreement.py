"""Pairs that two judgements put the other way round, worked by hand and against a plain loop."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa

from vp_ray.records import ASPECTS, LEVEL, OVERALL
from vp_ray.storage import RunFolder
from vp_ray.view.disagreement import Judged, disagreements, judged_levels
from vp_ray.view.reading import ViewData


def test_two_judgements_of_one_prompt_by_hand() -> None:
    # Images a, b, c. Fidelity: a > b then a < b (disagree); a > c twice (agree); b = c then b < c (a tie: agree).
    level = np.full((2, 3, len(ASPECTS)), 3, np.int8)
    fidelity = ASPECTS.index("fidelity")
    level[0, :, fidelity] = (4, 2, 2)
    level[1, :, fidelity] = (3, 5, 2)
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    found = disagreements(Judged(level), np.array([0, 2]), np.zeros(3, np.int64), pairs[:, 0], pairs[:, 1])
    assert found["fidelity"].tolist() == [True, False, False]
    assert found["aesthetic"].tolist() == [False, False, False]
    assert found[OVERALL].tolist() == [True, False, False], "the other aspects are equal, so their sum decides nothing"


def test_a_level_that_is_missing_disagrees_with_nothing() -> None:
    level = np.zeros((2, 2, len(ASPECTS)), np.int8)
    level[0, :, 0] = (5, 1)
    level[1, :, 0] = (0, 4)
    found = disagreements(Judged(level), np.array([0, 2]), np.array([0]), np.array([0]), np.array([1]))
    assert not found[ASPECTS[0]][0]
    assert not found[OVERALL][0]


def test_levels_of_images_that_the_run_has_not_are_left_out() -> None:
    entries = [{"image_id": name, "aspect": ASPECTS[1], "level": 4, "rationale": ""} for name in ("a", "gone")]
    table = pa.table({"levels": pa.array([entries, []], pa.list_(LEVEL))})
    judged = judged_levels(table, np.array([1, 0]), pa.array(["b", "a"]), np.array([0, 1]))
    assert judged.level_JSA.shape == (2, 2, len(ASPECTS))
    assert judged.level_JSA[1, 1, 1] == 4
    assert judged.level_JSA.sum() == 4


def test_all_pairs_of_a_run_equal_a_plain_loop(data: ViewData, shapes: RunFolder) -> None:
    expected: dict[str, set[tuple[str, str]]] = {aspect: set() for aspect in (*ASPECTS, OVERALL)}
    by_prompt: dict[str, list[dict]] = {}
    for row in shapes.stage("annotate").read_table("judgements.parquet").to_pylist():
        levels: dict[str, dict[str, int]] = {}
        for entry in row["levels"]:
            levels.setdefault(entry["image_id"], {})[entry["aspect"]] = entry["level"]
        by_prompt.setdefault(row["prompt_id"], []).append(
            {name: one | {OVERALL: sum(one.values())} for name, one in levels.items()}
        )
    for judgements in by_prompt.values():
        names = sorted({name for judgement in judgements for name in judgement})
        for one, other in combinations(names, 2):
            for aspect, disagreeing in expected.items():
                signs = {np.sign(j[one][aspect] - j[other][aspect]) for j in judgements if one in j and other in j}
                if {1, -1} <= signs:
                    disagreeing.add((one, other))
    ids = data.images["image_id"].to_pylist()
    pairs = data.pairs
    for aspect in (*ASPECTS, OVERALL):
        chosen = np.flatnonzero(pairs.disagree[aspect])
        found = {tuple(sorted((ids[pairs.first_P[pair]], ids[pairs.second_P[pair]]))) for pair in chosen}
        assert found == expected[aspect]
        assert found
