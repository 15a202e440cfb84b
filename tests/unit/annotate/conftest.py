"""Judgements made by hand, where the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vp_ray.records import ASPECTS, JUDGEMENTS

LevelOf = Callable[[str, str, int], float]
"""The level of an image for an aspect in a slot."""


def judgement(
    order: Sequence[str], level_of: LevelOf, annotator: str = "judge", status: str = "scored", prompt_id: str = "p"
) -> dict[str, Any]:
    """A row of `records.JUDGEMENTS`."""
    levels = [
        {"image_id": image, "aspect": aspect, "level": round(level_of(image, aspect, slot)), "rationale": ""}
        for slot, image in enumerate(order)
        for aspect in ASPECTS
    ]
    scored = levels if status == "scored" else []
    row = {"order": list(order), "annotator": annotator, "status": status, "levels": scored, "prompt_id": prompt_id}
    return {**dict.fromkeys(JUDGEMENTS.names), **row, "judgement_id": f"{annotator}/{'/'.join(order)}"}


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The rows as a table."""
    return pa.Table.from_pylist(list(rows), schema=JUDGEMENTS)


def index_of(images: Mapping[str, str]) -> pa.Table:
    """An index of images: `{image_id: prompt_id}`."""
    generators = [("strong", "weak")[number % 2] for number in range(len(images))]
    return pa.table({"image_id": list(images), "prompt_id": list(images.values()), "generator": generators})


def simulated(groups: int, noise: float, bias: Sequence[float], seed: int = 0) -> tuple[pa.Table, dict[str, float]]:
    """Judgements of groups of four in two orders, with the true level of each image."""
    rng = np.random.default_rng(seed)
    truth: dict[str, float] = {}

    def level_of(image: str, aspect: str, slot: int) -> float:
        return float(np.clip(truth[image] + bias[slot] + rng.normal(0, noise), 1, 5))

    rows = []
    for group in range(groups):
        images = [f"g{group}i{place}" for place in range(4)]
        truth.update(zip(images, rng.uniform(2, 4, 4), strict=True))
        order = [images[place] for place in rng.permutation(4)]
        rows += [judgement(shown, level_of, prompt_id=f"g{group}") for shown in (order, order[::-1])]
    return table(rows), truth
