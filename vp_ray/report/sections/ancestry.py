"""What the lineage of tuned images reads of a run, by the ids of images and prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds

from vp_ray.ids import uniform_from
from vp_ray.records import ASPECTS
from vp_ray.report.formatting import is_number
from vp_ray.report.reading import RunReader

_OWN_SCORER: Final = "vp_score"


def tuned_images(reader: RunReader, most: int) -> list[dict[str, Any]]:
    """Tuned images of different prompts, chosen as those of the before-and-after grid are."""
    where = ds.field("generator") == "tuned"
    rows = reader.rows("evaluate", "images", ["image_id", "prompt_id", "prompt", "seed"], where)
    rows.sort(key=lambda row: uniform_from("report", row["prompt_id"], row["seed"]))
    return list({row["prompt_id"]: row for row in reversed(rows)}.values())[::-1][:most]


def training_prompts(reader: RunReader) -> pa.Table | None:
    """`prompt_id`, `prompt` and `pairs` of the prompts of the split that VP-Score learns from."""
    table = reader.table("preferences", "preferences.parquet", ["prompt_id", "prompt"], ds.field("split") == "train")
    if table is None:
        return None
    counted = table.group_by(["prompt_id", "prompt"]).aggregate([([], "count_all")])
    return counted.rename_columns({"count_all": "pairs"})


def images_by_prompt(reader: RunReader, prompt_ids: Sequence[str]) -> dict[str, list[str]]:
    """The images of each prompt that stand in a preference."""
    where = ds.field("prompt_id").isin(list(prompt_ids)) & (ds.field("split") == "train")
    columns = ["prompt_id", "image_id_a", "image_id_b"]
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in reader.rows("preferences", "preferences.parquet", columns, where):
        found[row["prompt_id"]] |= dict.fromkeys((row["image_id_a"], row["image_id_b"]))
    return {name: list(ids) for name, ids in found.items()}


def generators_of(reader: RunReader, image_ids: Sequence[str]) -> dict[str, str]:
    """What drew each image."""
    where = ds.field("image_id").isin(list(image_ids))
    found: dict[str, str] = {}
    for stage in ("generate", "import"):
        rows = reader.rows(stage, "images", ["image_id", "generator"], where)
        found |= {row["image_id"]: row["generator"] for row in rows}
    return found


def judgements_by_prompt(reader: RunReader, prompt_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Every judgement of each prompt, whatever became of it."""
    columns = ["judgement_id", "prompt_id", "annotator", "status", "order", "levels"]
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for stage in ("annotate", "import"):
        for row in reader.rows(stage, "judgements.parquet", columns, ds.field("prompt_id").isin(list(prompt_ids))):
            found[row["prompt_id"]].append(row)
    return found


def mean_levels(reader: RunReader, prompt_ids: Sequence[str]) -> dict[str, tuple[float | None, ...]]:
    """The mean level of each image by aspect."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    where = ds.field("prompt_id").isin(list(prompt_ids))
    for stage in ("annotate", "import"):
        for row in reader.rows(stage, "ratings.parquet", ["image_id", "aspect", "mean"], where):
            if is_number(row["mean"]):
                found[row["image_id"]][row["aspect"]] = row["mean"]
    return {name: tuple(means.get(aspect) for aspect in ASPECTS) for name, means in found.items()}


def reward_scores(reader: RunReader, image_ids: Sequence[str]) -> dict[str, tuple[tuple[str, float, float], ...]]:
    """By image (aspect, VP-Score's score, the weight that the reward gave the aspect)."""
    weights = reader.settings("rl").get("reward_weights") or {}
    where = (ds.field("scorer") == _OWN_SCORER) & ds.field("image_id").isin(list(image_ids))
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in reader.rows("evaluate", "scores.parquet", ["image_id", "aspect", "score"], where):
        if is_number(row["score"]):
            found[row["image_id"]][row["aspect"]] = row["score"]
    return {
        name: tuple((aspect, scores[aspect], float(weights.get(aspect) or 0)) for aspect in ASPECTS if aspect in scores)
        for name, scores in found.items()
    }
