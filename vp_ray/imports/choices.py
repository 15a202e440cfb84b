"""Choices between two images: HPDv2's training set and Pick-a-Pic.

Each function makes a `Group` of one row and raises `KeyError`, `TypeError` or `ValueError` for what does not fit.
"""

from __future__ import annotations

from typing import Any

from vp_ray.ids import content_id
from vp_ray.imports.config import ImportSettings
from vp_ray.imports.groups import Choice, Group, Shown
from vp_ray.imports.rankings import of_hpdv2_test
from vp_ray.imports.scales import seconds_of


def of_hpdv2(row: Any, settings: ImportSettings) -> Group:
    """A row of the training set (`file_path`, `human_preference`), or of the test set."""
    if "human_preference" not in row:
        return of_hpdv2_test(row)
    names, preferred = row["file_path"], row["human_preference"]
    if len(names) != 2 or len(preferred) != 2:
        raise ValueError(f"{len(names)} images with {len(preferred)} preferences are no pair")
    first, second = (float(value) for value in preferred)
    answer = 0.5 if first == second else float(first > second)
    hashes = row.get("user_hash")
    rater = str(hashes[0] if isinstance(hashes, list) and hashes else hashes or "unknown")
    return Group(str(row["prompt"]), tuple(Shown(str(name)) for name in names), choices=(Choice(rater, answer),))


def of_pickapic(row: Any, settings: ImportSettings) -> Group:
    """`caption`, two images (`image_0_uid`, `jpg_0`, `model_0`) and `label_0`; rows without a label are abstentions."""
    images = tuple(_pickapic_image(row, side) for side in (0, 1))
    answer = row.get("label_0")
    if row.get("has_label") is False:
        answer = None
    elif answer is None:
        best = row["best_image_uid"]
        answer = 0.5 if best == "tie" else float(best == images[0].name)
    if answer is not None and not 0 <= answer <= 1:
        raise ValueError(f"label_0 is {answer}, not between 0 and 1")
    choice = Choice(str(row.get("user_id", "unknown")), answer, answered_at=seconds_of(row.get("created_at")))
    return Group(str(row["caption"]), images, choices=(choice,))


def _pickapic_image(row: Any, side: int) -> Shown:
    data = row.get(f"jpg_{side}")
    name = row.get(f"image_{side}_uid") or (content_id(data) if data else None)
    if name is None:
        raise KeyError(f"image_{side}_uid")
    return Shown(str(name), str(row.get(f"model_{side}") or "unknown"), data)
