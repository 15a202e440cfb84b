"""Scores of single images: RichHF-18K, mean opinion scores, and VisionPrefer's levels of groups.

Each function makes a `Group` of one row and raises `KeyError`, `TypeError` or `ValueError` for what does not fit.
"""

from __future__ import annotations

import math
from typing import Any

from vp_ray.imports.config import ImportSettings
from vp_ray.imports.groups import Group, Judged, Rating, Shown
from vp_ray.imports.scales import level_on
from vp_ray.records import ASPECTS, LEVELS

_RICHHF = {
    "misalignment_score": "prompt_following",
    "aesthetics_score": "aesthetic",
    "artifact_score": "fidelity",
    "overall_score": "overall",
}
_MOS = {
    "mos_align": "prompt_following",
    "mos_alignment": "prompt_following",
    "mos_aesthetic": "aesthetic",
    "mos_quality": "fidelity",
    "mos": "overall",
}


def of_richhf(row: Any, settings: ImportSettings) -> Group:
    """`filename`, `prompt` or `caption`, and scores of 0 to 1; 1 is best, of artefacts and misalignment too."""
    named = {str(key).lower().replace(" ", "_"): value for key, value in row.items()}
    low, high = settings.scale or (0.0, 1.0)
    ratings = tuple(
        Rating(0, aspect, level_on(float(named[column]), low, high))
        for column, aspect in _RICHHF.items()
        if named.get(column) not in (None, "")
    )
    if not ratings:
        raise KeyError("overall_score")
    prompt = named["prompt"] if named.get("prompt") else named["caption"]
    image = named.get("image")
    data = image.get("bytes") if isinstance(image, dict) else image if isinstance(image, bytes) else None
    return Group(str(prompt), (Shown(str(named["filename"]), data=data),), ratings=ratings)


def of_mos(row: Any, settings: ImportSettings) -> Group:
    """`name`, `prompt` and columns such as `mos_quality` and `mos_align` with their deviations `std_quality`.

    Quality is fidelity. The generator is what the name says before its first underscore, as in AGIQA-3K.
    """
    low, high = settings.scale or (0.0, 5.0)
    ratings = []
    for column, aspect in _MOS.items():
        if row.get(column) in (None, ""):
            continue
        deviation = row.get(column.replace("mos", "std"))
        error = None
        if settings.raters is not None and deviation not in (None, ""):
            error = float(deviation) * 4 / (high - low) / math.sqrt(settings.raters)
        ratings.append(Rating(0, aspect, level_on(float(row[column]), low, high), error, settings.raters or 1))
    if not ratings:
        raise KeyError("mos_quality")
    name = str(row["name"])
    generator = name.partition("_")[0] if "_" in name else "unknown"
    return Group(str(row["prompt"]), (Shown(name, generator),), ratings=tuple(ratings))


def of_visionprefer(row: Any, settings: ImportSettings) -> Group:
    """`prompt`, `annotator` and `images`, each with a `path`, a `generator` (or `model`) and `levels` by aspect.

    A level is a number of 1 to 5, or an object of `level` (or `score`) and `rationale`; aspects may be written with
    hyphens. Rows of the same images by other annotators are further judgements.
    """
    images, levels = [], []
    for item in row["images"]:
        name = item.get("path") or item.get("file_name") or item["image_id"]
        images.append(Shown(str(name), str(item.get("generator") or item.get("model") or "unknown")))
        given = item.get("levels") or item["scores"]
        levels.append({_aspect(key): _level(value) for key, value in given.items()})
    if not images:
        raise ValueError("there are no images")
    judged = Judged(str(row.get("annotator", "unknown")), tuple(levels))
    return Group(str(row["prompt"]), tuple(images), judgements=(judged,))


def _aspect(name: str) -> str:
    aspect = name.lower().replace("-", "_").replace(" ", "_")
    if aspect not in ASPECTS:
        raise ValueError(f"there is no aspect '{name}'")
    return aspect


def _level(value: Any) -> tuple[int, str]:
    rationale = ""
    if isinstance(value, dict):
        value, rationale = value.get("level", value.get("score")), str(value.get("rationale") or "")
    level = int(value)
    if level not in LEVELS or level != float(value):
        raise ValueError(f"{value!r} is not a level of 1 to 5")
    return level, rationale
