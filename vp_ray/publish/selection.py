"""Which prompts and images of a run are published, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.errors import InputError
from vp_ray.pictures import PLACE, stored_images
from vp_ray.publish.config import ExportSettings
from vp_ray.records import IMAGES, ImageStatus
from vp_ray.storage import RunFolder

HARMFUL_BELOW: Final = 2.5
"""Images with a lower mean level of harmlessness count as harmful, and the card is tagged."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is published."""

    prompts: pa.Table
    """Rows of `records.PROMPTS` in the run's order."""
    images: pa.Table
    """`records.IMAGES` without pixels, `folder` (of the run) and the place in it; those of a prompt together."""
    refused: frozenset[str]
    """Ids of the prompts that are left out."""
    left_out: dict[str, int]
    """Prompts and images that are left out, by reason."""
    harmful: int
    """Published images with a mean harmlessness below `HARMFUL_BELOW`."""


def select(run: RunFolder, settings: ExportSettings) -> Selection:
    """What the settings let through; raises `InputError` when no image is left."""
    prompts = run.source("prompts").read_table("prompts.parquet")
    every_prompt = prompts["prompt_id"].to_pylist()
    left_out: dict[str, int] = {}
    if "flags" in prompts.column_names:
        kept = pc.invert(_flagged(prompts["flags"], settings.leave_out_flags))
        _count(left_out, "prompts with a flag", kept)
        prompts = prompts.filter(kept)
    images = stored_images(run)
    made = pc.equal(images["status"], str(ImageStatus.MADE))
    _count(left_out, "images that were not made", made)
    images = images.filter(made)
    known = pc.is_in(images["prompt_id"], prompts["prompt_id"].combine_chunks())
    _count(left_out, "images of prompts that are left out", known)
    images = images.filter(known)
    kept = pc.invert(_flagged(images["flags"], settings.leave_out_flags))
    _count(left_out, "images with a flag", kept)
    images = images.filter(kept)
    harmlessness = pc.cast(_harmlessness(run, images), pa.float64())
    if settings.least_harmlessness is not None:
        enough = pc.greater_equal(harmlessness, settings.least_harmlessness)
        _count(left_out, "images of unknown harmlessness", pc.is_valid(enough))
        _count(left_out, f"images below harmlessness {settings.least_harmlessness:g}", pc.fill_null(enough, True))
        kept = pc.fill_null(enough, False)
        images, harmlessness = images.filter(kept), harmlessness.filter(kept)
    if images.num_rows == 0:
        raise InputError("no image is left to publish", "Loosen leave_out_flags or least_harmlessness.", run.uri)
    order = pc.index_in(images["prompt_id"], prompts["prompt_id"].combine_chunks())
    sorted_rows = pc.sort_indices(
        pa.table({"prompt": order, "row": pa.array(range(images.num_rows))}),
        [("prompt", "ascending"), ("row", "ascending")],
    )
    harmful = pc.sum(pc.less(harmlessness, HARMFUL_BELOW)).as_py() or 0
    refused = frozenset(every_prompt) - frozenset(prompts["prompt_id"].to_pylist())
    return Selection(prompts, images.take(sorted_rows), refused, left_out, int(harmful))


def published_columns() -> list[str]:
    """The columns of a published image, beside its pixels."""
    return [name for name in IMAGES.names if name not in ("image", "status", *PLACE)]


def _flagged(flags: pa.ChunkedArray, names: tuple[str, ...]) -> pa.Array:
    unwanted = set(names)
    return pa.array([bool(unwanted.intersection(row or ())) for row in flags.to_pylist()], pa.bool_())


def _count(left_out: dict[str, int], reason: str, kept: pa.Array | pa.ChunkedArray) -> None:
    dropped = len(kept) - (pc.sum(kept).as_py() or 0)
    if dropped:
        left_out[reason] = dropped


def _harmlessness(run: RunFolder, images: pa.Table) -> pa.Array:
    """The mean level of harmlessness of each image, null where it was not rated."""
    annotated = run.stage("annotate")
    if annotated.manifest() is None or not annotated.exists("ratings.parquet"):
        return pa.nulls(images.num_rows, pa.float64())
    ratings = annotated.read_table("ratings.parquet", ("image_id", "aspect", "mean"))
    ratings = ratings.filter(pc.equal(ratings["aspect"], "harmlessness"))
    return ratings["mean"].combine_chunks().take(pc.index_in(images["image_id"], ratings["image_id"].combine_chunks()))
