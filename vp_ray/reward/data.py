"""Preferences as groups: all images of a prompt once, and what is known of each pair of them.

Letters of shapes: N images in all, K images of a group, A aspects.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vp_ray.errors import InputError
from vp_ray.ids import uniform_from
from vp_ray.models.preparation import Preparation
from vp_ray.pictures import decode_image
from vp_ray.protocols import Pixels
from vp_ray.records import ASPECTS, OVERALL, SELF_SUPERVISED, ImageStatus
from vp_ray.storage import RunFolder

PREFERENCE_COLUMNS: Final = ("prompt_id", "prompt", "aspect", "image_id_a", "image_id_b", "probability_a", "weight")
IMAGE_COLUMNS: Final = ("image_id", "status", "image")


@dataclass(frozen=True, slots=True)
class Group:
    """The images of one prompt and its labelled pairs."""

    prompt_id: str
    prompt: str
    images: NDArray[np.int64]
    """(K,) rows of `RewardData.images`."""
    pairs: tuple[tuple[str, int, int, float, float], ...]
    """(aspect, a, b, probability_a, weight) with a and b the images' places in the group."""
    constructed: frozenset[tuple[str, int, int]] = frozenset()
    """(aspect, a, b) of the pairs whose order is known by construction."""

    def annotated(self) -> Group:
        """The pairs that annotators labelled, and their images alone."""
        pairs = [pair for pair in self.pairs if pair[:3] not in self.constructed]
        kept = sorted({place for _, a, b, _, _ in pairs for place in (a, b)})
        new = {place: number for number, place in enumerate(kept)}
        moved = tuple((aspect, new[a], new[b], probability, weight) for aspect, a, b, probability, weight in pairs)
        return replace(self, images=self.images[kept], pairs=moved, constructed=frozenset())

    def labels(self, aspects: Sequence[str], size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities and weights as (A, size, size), with weight 0 where nothing is known."""
        probability = np.full((len(aspects), size, size), 0.5, np.float32)
        weight = np.zeros_like(probability)
        for aspect, a, b, probability_a, pair_weight in self.pairs:
            if aspect in aspects:
                place = (aspects.index(aspect), a, b)
                probability[place], weight[place] = probability_a, pair_weight
        return probability, weight


@dataclass(frozen=True, slots=True)
class RewardData:
    """Everything that the stage learns from."""

    images: Pixels
    """(N, side, side, 3)."""
    image_ids: tuple[str, ...]
    """(N,) names of the images."""
    groups: tuple[Group, ...]
    aspects: tuple[str, ...]
    """What is trained: the labelled aspects, or `overall` where only that is labelled."""

    def only(self, prompt_ids: Set[str]) -> RewardData:
        """The same images with the groups of these prompts alone."""
        return replace(self, groups=tuple(group for group in self.groups if group.prompt_id in prompt_ids))

    def split(
        self, validation_share: float, seed: int, train_share: float = 1.0
    ) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
        """Training and validation groups, by hash of the prompt; raises `InputError` when one of them is empty.

        Both keep the order of `groups`, and a training group has a labelled pair of a trained aspect. Validation is by
        annotated pairs, where there are any. Of the prompts that are not held back for it `train_share` is trained on;
        a smaller share is a part of each larger one, and the validation prompts are the same for all.
        """
        held = [uniform_from("reward-validation", seed, group.prompt_id) < validation_share for group in self.groups]
        train = tuple(group for group, out in zip(self.groups, held, strict=True) if not out)
        train = tuple(
            group for group in train if uniform_from("reward-train-share", seed, group.prompt_id) < train_share
        )
        validation = tuple(group for group, out in zip(self.groups, held, strict=True) if out)
        if any(group.annotated().pairs for group in self.groups):
            validation = tuple(group for group in map(Group.annotated, validation) if group.pairs)
        if not train or not validation:
            raise InputError(
                f"{len(train)} prompts are left for training and {len(validation)} for validation",
                "Annotate more prompts, or change reward.validation_share, train_share or seed.",
            )
        return train, validation


def read_data(run: RunFolder, preparation: Preparation, wanted: Sequence[str] | None = None) -> RewardData:
    """The data of a run's `preferences` and `generate` (or `import`) stages; raises as `build_data` does.

    Only the split `train` is learnt from, whatever else was annotated.
    """
    preferences = run.stage("preferences").read_table(
        "preferences.parquet", columns=(*PREFERENCE_COLUMNS, "split", "source")
    )
    preferences = preferences.filter(pc.equal(preferences["split"], "train"))
    images = run.source("generate").read_table("images", columns=IMAGE_COLUMNS)
    if run.stage("preferences").exists("images"):
        images = pa.concat_tables([images, run.stage("preferences").read_table("images", columns=IMAGE_COLUMNS)])
    return build_data(preferences, images, preparation, wanted)


def build_data(
    preferences: pa.Table, images: pa.Table, preparation: Preparation, wanted: Sequence[str] | None = None
) -> RewardData:
    """Groups, in the order of their prompts' ids, from a table of `records.PREFERENCES` and one of `records.IMAGES`.

    Trained are the labelled aspects, or those of them that are `wanted`; pairs of `overall` are kept to be compared
    with. Pairs of weight 0 are left out, and so are images that no pair names. Raises `InputError` when no pair is
    left, a pair names an image that is not there, or an image cannot be read.
    """
    rows = [row for row in preferences.to_pylist() if row["weight"] > 0]
    labelled = {row["aspect"] for row in rows}
    aspects = tuple(aspect for aspect in ASPECTS if aspect in labelled) or (OVERALL,)
    if wanted is not None:
        unlabelled = [aspect for aspect in wanted if aspect not in labelled]
        if unlabelled:
            raise InputError(
                f"no preference is labelled for {', '.join(unlabelled)}", "Change reward.aspects, or annotate them."
            )
        aspects = tuple(aspect for aspect in ASPECTS if aspect in wanted)
    rows = [row for row in rows if row["aspect"] in (*aspects, OVERALL)]
    if not any(row["aspect"] in aspects for row in rows):
        raise InputError("there is no preference to learn from", "Look at the preferences stage: counts by split.")
    named = sorted({row[side] for row in rows for side in ("image_id_a", "image_id_b")})
    places = {image_id: place for place, image_id in enumerate(named)}
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    groups = [_group(prompt_id, by_prompt[prompt_id], places) for prompt_id in sorted(by_prompt)]
    trained = tuple(group for group in groups if any(pair[0] in aspects for pair in group.pairs))
    return RewardData(_pixels(images, named, preparation), tuple(named), trained, aspects)


def _group(prompt_id: str, rows: list[dict[str, Any]], places: dict[str, int]) -> Group:
    image_ids = sorted({row[side] for row in rows for side in ("image_id_a", "image_id_b")})
    inner = {image_id: place for place, image_id in enumerate(image_ids)}
    pairs = sorted(
        (row["aspect"], inner[row["image_id_a"]], inner[row["image_id_b"]], row["probability_a"], row["weight"])
        for row in rows
    )
    rows_of_images = np.array([places[image_id] for image_id in image_ids], np.int64)
    constructed = frozenset(
        (row["aspect"], inner[row["image_id_a"]], inner[row["image_id_b"]])
        for row in rows
        if row.get("source") == SELF_SUPERVISED
    )
    return Group(prompt_id, rows[0]["prompt"], rows_of_images, tuple(pairs), constructed)


def _pixels(images: pa.Table, named: list[str], preparation: Preparation) -> Pixels:
    wanted = images.filter(pc.is_in(images["image_id"], pa.array(named)))
    found: dict[str, NDArray[np.uint8]] = {}
    for row in wanted.to_pylist():
        if row["status"] == ImageStatus.MADE and row["image_id"] not in found:
            found[row["image_id"]] = preparation.fit_images(_decoded(row["image"]["bytes"], row["image_id"])[None])[0]
    lost = next((image_id for image_id in named if image_id not in found), None)
    if lost is not None:
        raise InputError(f"a preference names the image {lost}, which was not made", "Make both stages anew.")
    return np.stack([found[image_id] for image_id in named])


def _decoded(data: bytes, image_id: str) -> NDArray[np.uint8]:
    try:
        return decode_image(data)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise InputError(f"the image cannot be read ({error})", "Make the generate stage anew.", image_id) from None
