"""What people are asked: pairs of a finished evaluation, base against tuned, without a word about which is which.

Each pair makes two ballots, one in each order. A rater sees every pair once before any comes again the other way round,
in an order of their own; which side comes first is drawn by hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from vp_ray.errors import InputError
from vp_ray.ids import content_id, uniform_from
from vp_ray.pictures import PLACE, image_places
from vp_ray.records import BASE, TUNED, ImageStatus
from vp_ray.storage import Folder, RunFolder

_COLUMNS: Final = ("image_id", "prompt_id", "prompt", "generator", "seed", "status")

Place = tuple[str, int, int]
"""Part, row group and row of an image's Parquet file."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One image of a pair."""

    image_id: str
    is_tuned: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of one prompt and seed, in the order in which they are shown first."""

    prompt_id: str
    prompt: str
    first: Shown
    second: Shown


@dataclass(frozen=True, slots=True)
class Ballot:
    """One question: two images side by side. Its id tells nothing about them."""

    ballot_id: str
    prompt_id: str
    prompt: str
    left: Shown
    right: Shown


def images_of(run: RunFolder) -> Folder:
    """The folder of the evaluation's images; raises `StorageError` where the evaluation is not finished."""
    run.stage("evaluate").finished()
    return run.stage("evaluate") / "images"


def read_pairs(run: RunFolder) -> list[Pair]:
    """All pairs of which both images were made; raises `InputError` where there is none."""
    folder = images_of(run)
    places = image_places(folder, _COLUMNS)
    rows = [] if places is None else places.to_pylist()
    sides: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == ImageStatus.MADE:
            sides.setdefault((row["prompt_id"], row["seed"]), {})[row["generator"]] = row
    pairs = [_pair(found[BASE], found[TUNED]) for found in sides.values() if {BASE, TUNED} <= found.keys()]
    if not pairs:
        raise InputError("there is no pair to vote on", "Run `vp-ray evaluate` with this job first.", folder.uri)
    return pairs


def _pair(base: dict[str, Any], tuned: dict[str, Any]) -> Pair:
    one, other = (
        Shown(row["image_id"], row["generator"] == TUNED, (row[PLACE[0]], row[PLACE[1]], row[PLACE[2]]))
        for row in (base, tuned)
    )
    if uniform_from("vote", base["image_id"], tuned["image_id"]) < 0.5:
        one, other = other, one
    return Pair(base["prompt_id"], base["prompt"], one, other)


def ballots_of(rater: str, pairs: Sequence[Pair]) -> list[Ballot]:
    """Every pair in one order, then every pair in the other, in the rater's own order of pairs."""
    ordered = sorted(pairs, key=lambda pair: uniform_from("rater", rater, pair.first.image_id, pair.second.image_id))
    return [
        Ballot(content_id("ballot", left.image_id, right.image_id), pair.prompt_id, pair.prompt, left, right)
        for turned in (False, True)
        for pair in ordered
        for left, right in [(pair.second, pair.first) if turned else (pair.first, pair.second)]
    ]
