"""Which judgements a run needs, where their images lie, and how they are cut into shards."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.annotate.config import AnnotateSettings
from vp_ray.errors import InputError
from vp_ray.judging.orders import groups, orders
from vp_ray.judging.requests import judgement_id
from vp_ray.judging.rubric import Rubric
from vp_ray.pictures import image_places
from vp_ray.records import ImageStatus
from vp_ray.storage import Folder

_COLUMNS: Final = ("image_id", "prompt_id", "prompt", "generator", "status")


@dataclass(frozen=True, slots=True)
class Planned:
    """One judgement to be asked for."""

    judgement_id: str
    annotator: str
    prompt_id: str
    prompt: str
    order: tuple[str, ...]


def index_images(folder: Folder) -> pa.Table:
    """The images of a run that were made, without their pixels: `image_id, prompt_id, prompt, generator` and the
    place of each: `part` (a Parquet file's name), `row_group`, `row` (within the row group).

    Raises `InputError` when there is none.
    """
    index = image_places(folder, _COLUMNS)
    if index is not None:
        index = index.filter(pc.equal(index["status"], str(ImageStatus.MADE))).drop_columns(["status"])
    if index is None or index.num_rows == 0:
        raise InputError("there are no images to judge", "Look at the generate stage: none was made.", folder.uri)
    return index


def plan(index: pa.Table, settings: AnnotateSettings, rubric: Rubric) -> list[Planned]:
    """Every judgement of the run, prompts in the order of their images, the orders of a group side by side.

    It depends on nothing but images and settings, so that a resumed run plans the same.
    """
    prompts: dict[str, tuple[str, list[str]]] = {}
    columns = (index[name].to_pylist() for name in ("image_id", "prompt_id", "prompt"))
    for image_id, prompt_id, prompt in zip(*columns, strict=True):
        prompts.setdefault(prompt_id, (prompt, []))[1].append(image_id)
    planned = []
    for prompt_id, (prompt, image_ids) in prompts.items():
        for group in groups(prompt_id, image_ids, settings.group_size):
            for order in orders(group, settings.orders):
                for annotator in settings.annotators:
                    name = judgement_id(annotator, rubric, prompt_id, order)
                    planned.append(Planned(name, annotator.name, prompt_id, prompt, order))
    return planned


def shards(
    planned: Sequence[Planned], done: Collection[str], index: pa.Table, requests_per_shard: int
) -> list[dict[str, Any]]:
    """What is not done, in shards of one annotator each; annotators take turns, since their rates do not add up."""
    places = dict(
        zip(
            index["image_id"].to_pylist(),
            zip(*(index[name].to_pylist() for name in ("part", "row_group", "row")), strict=True),
            strict=True,
        )
    )
    by_annotator: dict[str, list[Planned]] = {}
    for item in planned:
        if item.judgement_id not in done:
            by_annotator.setdefault(item.annotator, []).append(item)
    queues = [list(_chunks(items, requests_per_shard)) for items in by_annotator.values()]
    turns = chain.from_iterable(zip_longest(*queues))
    return [_shard(chunk, places) for chunk in turns if chunk is not None]


def _chunks(items: Sequence[Planned], size: int) -> Iterator[Sequence[Planned]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _shard(chunk: Sequence[Planned], places: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {
        "annotator": chunk[0].annotator,
        "judgements": [
            {
                "judgement_id": item.judgement_id,
                "prompt_id": item.prompt_id,
                "prompt": item.prompt,
                "order": list(item.order),
            }
            for item in chunk
        ],
        "images": {image_id: list(places[image_id]) for item in chunk for image_id in item.order},
    }
