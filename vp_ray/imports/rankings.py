"""People's rankings of the images of a prompt: a form of our own, ImageRewardDB's and HPDv2's test set.

Each function makes a `Group` of one row and raises `KeyError`, `TypeError` or `ValueError` for what does not fit.
"""

from __future__ import annotations

from typing import Any

from vp_ray.imports.config import ImportSettings
from vp_ray.imports.groups import Group, Ranking, Rating, Shown
from vp_ray.imports.scales import level_on

_IMAGEREWARD_ASPECTS = {
    "overall_rating": "overall",
    "image_text_alignment_rating": "prompt_following",
    "fidelity_rating": "fidelity",
}


def of_rankings(row: Any, settings: ImportSettings) -> Group:
    """`prompt`, `images` and `ranks_by_annotator`, one list a person."""
    ranks = [Ranking(str(rater), _ranks(given)) for rater, given in enumerate(row["ranks_by_annotator"])]
    return _group(row["prompt"], row["images"], ranks)


def of_imagereward(row: Any, settings: ImportSettings) -> Group:
    """A group (`generations` and `ranking`), or one image (`image_path` and `rank`) with its ratings of 1 to 7.

    Each group was ranked by one person of whom nothing is known, so that its id stands for the person.
    """
    if "generations" in row:
        rater = f"group {row['id']}" if row.get("id") is not None else row["prompt"]
        return _group(row["prompt"], row["generations"], [Ranking(rater, _ranks(row["ranking"]))])
    low, high = settings.scale or (1.0, 7.0)
    ratings = tuple(
        Rating(0, aspect, level_on(float(row[column]), low, high))
        for column, aspect in _IMAGEREWARD_ASPECTS.items()
        if row.get(column) not in (None, "")
    )
    rank = Ranking(f"group {row['prompt_id']}", (int(row["rank"]),))
    return Group(_text(row["prompt"]), (Shown(_text(row["image_path"])),), (rank,), ratings=ratings)


def of_hpdv2_test(row: Any) -> Group:
    """`image_path` with everybody's `raw_annotations`, or with the mean `rank` where these are not there."""
    annotations = row.get("raw_annotations")
    if not annotations:
        return _group(row["prompt"], row["image_path"], [Ranking("mean of all", _ranks(row["rank"]))])
    ranks = []
    for number, given in enumerate(annotations):
        named = isinstance(given, dict)
        rater = str(given.get("user_hash", number)) if named else str(number)
        ranks.append(Ranking(rater, _ranks(given["rank"] if named else given)))
    return _group(row["prompt"], row["image_path"], ranks)


def _group(prompt: Any, names: Any, rankings: list[Ranking]) -> Group:
    images = tuple(Shown(_text(name)) for name in names)
    if any(len(ranking.ranks) != len(images) for ranking in rankings):
        raise ValueError("a person ranked another number of images than there are")
    return Group(_text(prompt), images, tuple(rankings))


def _ranks(given: Any) -> tuple[int, ...]:
    """Ranks from 1; those from 0 are moved up."""
    ranks = tuple(int(rank) for rank in given)
    return tuple(rank + 1 for rank in ranks) if ranks and min(ranks) == 0 else ranks


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not text")
    return value
