"""Sketches of many prompts at once against those of datasketch, and what clusters do not depend on."""

from __future__ import annotations

import numpy as np
from datasketch import MinHash

from vp_ray.maths.duplicates import NearDuplicates, Sketches, shingles

TEXTS = ["", "a", "two cats asleep on a red sofa", "日本語 の プロンプト の 例", "x" * 400, "a b c d e f g h"]


def test_sketches_are_those_of_datasketch() -> None:
    sets = [shingles(text) for text in TEXTS]
    expected = np.stack([sketch.hashvalues for sketch in MinHash.bulk(sets, num_perm=128, seed=1)])
    assert np.array_equal(Sketches().of(sets), expected)


def test_clusters_are_named_by_their_first_member_in_whatever_order_prompts_come() -> None:
    base = [f"picture {n * 7919 % 10007} of {n * 104729 % 99991} things on a table in winter light" for n in range(200)]
    texts = base + [f"{text}, 4k" for text in base]
    forward = NearDuplicates(texts, 0.8).clusters()
    backward = NearDuplicates(texts[::-1], 0.8).clusters()[::-1]
    assert (forward <= np.arange(len(texts))).all()
    same = forward[:, None] == forward[None, :]
    assert np.array_equal(same, backward[:, None] == backward[None, :])
    assert np.array_equal(forward[200:], forward[:200])


def test_a_list_is_matched_as_comparing_every_prompt_with_it_would() -> None:
    texts = [f"a portrait of person {n} in the style of painter {n % 7}" for n in range(60)]
    listed = [texts[3].upper(), f"{texts[40]} 4k", "nothing like the others at all"]
    equal, near = NearDuplicates(texts, 0.9).matches(listed)
    assert equal == {3}
    assert 40 in near
    assert not equal & near
