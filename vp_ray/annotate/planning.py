"""Which judgements a run needs, where their images lie, and how they are cut into shards."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vp_ray.annotate.config import AnnotateSettings
from vp_ray.errors import InputError
from vp_ray.judging.orders import groups, orders, pair_orders, permuted
from vp_ray.judging.requests import Question, judgement_id
from vp_ray.judging.rubric import Rubric
from vp_ray.judging.schemas import ALL_AT_ONCE, Asked
from vp_ray.pictures import PLACE, image_places
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
    asked: Asked = ALL_AT_ONCE
    sample: int = 0

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Planned:
        """The same out of a shard, which holds JSON values."""
        asked = Asked(**{**item["asked"], "aspects": tuple(item["asked"]["aspects"])})
        return cls(**{**item, "order": tuple(item["order"]), "asked": asked})

    def question(self, pictures: Mapping[str, bytes]) -> Question:
        """What is sent for it, with the encoded images by their ids."""
        images = tuple(pictures[image_id] for image_id in self.order)
        return Question(
            self.judgement_id, self.prompt_id, self.prompt, self.order, images, asked=self.asked, sample=self.sample
        )


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
    about = asked_of(settings, rubric)
    return [
        Planned(
            judgement_id(annotator, rubric, prompt_id, order, asked, sample),
            annotator.name,
            prompt_id,
            prompt,
            order,
            asked,
            sample,
        )
        for prompt_id, (prompt, image_ids) in prompts.items()
        for order in shown_orders(prompt_id, image_ids, settings)
        for asked in about
        for annotator in settings.annotators
        for sample in range(settings.samples)
    ]


def asked_of(settings: AnnotateSettings, rubric: Rubric) -> list[Asked]:
    """What is asked about each sight of images, one item a request."""
    if settings.ask == "all":
        return [Asked(settings.mode, rubric.aspects)]
    always = settings.show_prompt == "always"
    return [
        Asked(settings.mode, (aspect,), apart=True, with_prompt=always or aspect == "prompt_following")
        for aspect in rubric.aspects
    ]


def shown_orders(prompt_id: str, image_ids: Sequence[str], settings: AnnotateSettings) -> list[tuple[str, ...]]:
    """Which images of a prompt are shown together, in which orders."""
    if settings.mode == "pointwise":
        return [(image_id,) for image_id in permuted(prompt_id, image_ids)]
    grouped = groups(prompt_id, image_ids, settings.group_size)
    if settings.mode == "pairwise":
        return [order for group in grouped for order in pair_orders(prompt_id, group, settings.orders)]
    return [order for group in grouped for order in orders(group, settings.orders)]


def places(index: pa.Table) -> dict[str, tuple[Any, ...]]:
    """The part, row group and row of each image."""
    columns = (index[name].to_pylist() for name in PLACE)
    return dict(zip(index["image_id"].to_pylist(), zip(*columns, strict=True), strict=True))


def shards(
    planned: Sequence[Planned], done: Collection[str], index: pa.Table, requests_per_shard: int
) -> list[dict[str, Any]]:
    """What is not done, in shards of one annotator each; annotators take turns, since their rates do not add up."""
    place_of = places(index)
    by_annotator: dict[str, list[Planned]] = {}
    for item in planned:
        if item.judgement_id not in done:
            by_annotator.setdefault(item.annotator, []).append(item)
    queues = [list(_chunks(items, requests_per_shard)) for items in by_annotator.values()]
    turns = chain.from_iterable(zip_longest(*queues))
    return [_shard(chunk, place_of) for chunk in turns if chunk is not None]


def _chunks(items: Sequence[Planned], size: int) -> Iterator[Sequence[Planned]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _shard(chunk: Sequence[Planned], place_of: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {
        "annotator": chunk[0].annotator,
        "judgements": [asdict(item) for item in chunk],
        "images": {image_id: list(place_of[image_id]) for item in chunk for image_id in item.order},
    }
