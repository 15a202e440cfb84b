"""Links fitted to judgements: which answers count, what they expect, and what is too little."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest

from vp_ray.preferences.config import PreferenceSettings
from vp_ray.preferences.levels import fit_links, left_out_answers
from vp_ray.records import ASPECTS, JUDGEMENTS, OVERALL


def judgement(order: tuple[str, ...], levels: dict[str, list[int]], status: str = "scored") -> dict:
    """A row in which each image has the levels of the four aspects."""
    entries = [
        {"image_id": image, "aspect": aspect, "level": level, "rationale": ""}
        for image in order
        for aspect, level in zip(ASPECTS, levels.get(image, []), strict=False)
    ]
    row = dict.fromkeys(JUDGEMENTS.names) | {"order": list(order), "annotator": "j", "status": status}
    return row | {"judgement_id": str(order), "levels": entries}


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=JUDGEMENTS)


def simulated(groups: int, shared: float, seed: int = 0) -> pa.Table:
    """Two judgements of each group of two images; `shared` is the spread of an error that all aspects share."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        images = (f"{group}-a", f"{group}-b")
        truth = rng.normal(3, 0.7, (2, 4))
        for order in permutations(images):
            error = rng.normal(0, 0.5, (2, 4)) + rng.normal(0, shared, (2, 1))
            levels = np.clip(np.rint(truth + error), 1, 5).astype(int)
            rows.append(judgement(order, dict(zip(images, levels.tolist(), strict=True))))
    return table(*rows)


def test_two_judgements_by_hand() -> None:
    # The other answer puts a one level above b, and the answer itself two: it wins. Places cancel out, as both orders
    # give the first place 1.5 levels' difference in equal measure.
    first = judgement(("a", "b"), {"a": [4, 3, 3, 3], "b": [2, 3, 3, 3]})
    second = judgement(("b", "a"), {"a": [3, 3, 3, 3], "b": [2, 3, 3, 3]})
    expected, outcome = left_out_answers(table(first, second), PreferenceSettings())["prompt_following"]
    assert outcome.tolist() == [1.0, 1.0]
    # Within-image variance: a and b differ by 0.25 from their means once places are allowed for (first +0.25).
    assert np.all(expected > 0)
    _, ties = left_out_answers(table(first, second), PreferenceSettings())["fidelity"]
    assert ties.tolist() == [0.5, 0.5]


def test_without_repeated_judgements_or_with_too_few_the_default_stands() -> None:
    pairs = (("a", "b"), ("c", "d"))
    once = table(*(judgement(pair, {pair[0]: [4] * 4, pair[1]: [2] * 4}) for pair in pairs))
    assert left_out_answers(once, PreferenceSettings()) == {}
    for judgements in (None, once, simulated(20, 0.0)):
        links = fit_links(judgements, PreferenceSettings())
        assert {link.slope for link in links.values()} == {1.0}
        assert not any(link.fitted for link in links.values())


def test_statuses_without_levels_are_no_answers() -> None:
    answered, refused = judgement(("a", "b"), {"a": [4] * 4, "b": [2] * 4}), judgement(("b", "a"), {}, "refused")
    assert left_out_answers(table(answered, refused), PreferenceSettings()) == {}


def test_an_error_that_aspects_share_makes_overall_less_sure_than_its_aspects() -> None:
    def ratio(shared: float) -> float:
        links = fit_links(simulated(800, shared), PreferenceSettings())
        assert all(link.fitted for link in links.values())
        return links[OVERALL].slope / float(np.mean([links[aspect].slope for aspect in ASPECTS]))

    assert ratio(0.8) < 0.75 * ratio(0.0)


def test_normal_keeps_the_slope_at_one() -> None:
    links = fit_links(simulated(300, 0.0), PreferenceSettings(link="normal"))
    assert {link.slope for link in links.values()} == {1.0}


def test_the_order_of_the_rows_does_not_matter() -> None:
    judgements = simulated(150, 0.2)
    shuffled = judgements.take(np.random.default_rng(5).permutation(judgements.num_rows))
    one, other = (fit_links(rows, PreferenceSettings()) for rows in (judgements, shuffled))
    assert one["aesthetic"].slope == pytest.approx(other["aesthetic"].slope, rel=1e-3)
