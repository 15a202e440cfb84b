"""From a tuned image back to what its reward was learnt from: scores, VP-Score, and the judgements of like prompts.

VP-Score learns one function of all judgements, so that no single one is the cause of a reward. What is shown are the
training prompts most like the image's own, with every judgement of their images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.compute as pc

from vp_ray.records import ASPECTS
from vp_ray.report.assets import Assets, Picture
from vp_ray.report.reading import RunReader
from vp_ray.report.sections.ancestry import (
    generators_of,
    images_by_prompt,
    judgements_by_prompt,
    mean_levels,
    reward_scores,
    training_prompts,
    tuned_images,
)
from vp_ray.report.sections.nearest import Prompts

Row = Mapping[str, Any]

NEAREST: Final = 2
"""Training prompts that are shown for each tuned image."""


@dataclass(frozen=True, slots=True)
class JudgedImage:
    """An image that VP-Score learnt from, and its mean levels."""

    picture: Picture | None
    generator: str
    means: tuple[float | None, ...]
    """By aspect."""


@dataclass(frozen=True, slots=True)
class Said:
    """One judgement; images are named by their place in the ancestor's list, from 1."""

    judgement_id: str
    annotator: str
    status: str
    order: tuple[int, ...]
    levels: tuple[tuple[int | None, ...], ...]
    """By aspect, the level of each image in the order of the list."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A training prompt and everything that was said of its images."""

    prompt: str
    likeness: float
    pairs: int
    """Preferences between its images, over all aspects."""
    images: tuple[JudgedImage, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Descent:
    """One tuned image with what its reward came from."""

    image_id: str
    prompt: str
    picture: Picture
    scores: tuple[tuple[str, float, float], ...]
    """(aspect, VP-Score's score, weight in the reward)."""
    ancestors: tuple[Ancestor, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the section shows."""

    descents: tuple[Descent, ...]
    adapter: str
    """The fingerprint of the tuning, which names its settings and inputs."""
    epoch: Any
    reward: str
    """The fingerprint of VP-Score's training."""
    prompts: int
    """Training prompts with preferences."""
    preferences: int
    """Preferences that VP-Score learnt from, its own validation among them."""
    judgements: int
    rows: list[dict[str, Any]]
    """The data: one level of one judgement a row."""


def lineage(reader: RunReader, assets: Assets, most: int) -> Lineage | None:
    """At most so many tuned images, chosen by hash, with their ancestry; None where the run has not got all of it."""
    tuned = tuned_images(reader, most)
    learnt = training_prompts(reader)
    if not tuned or learnt is None or not len(learnt):
        return None
    texts = dict(zip(learnt["prompt_id"].to_pylist(), learnt["prompt"].to_pylist(), strict=True))
    known = Prompts(texts)
    near = {row["image_id"]: known.nearest(row["prompt"], NEAREST) for row in tuned}
    wanted = sorted({name for found in near.values() for name, _ in found})
    said, means = judgements_by_prompt(reader, wanted), mean_levels(reader, wanted)
    images = images_by_prompt(reader, wanted)
    assets.add_pictures(reader, [row["image_id"] for row in tuned] + [one for ids in images.values() for one in ids])
    counts = dict(zip(learnt["prompt_id"].to_pylist(), learnt["pairs"].to_pylist(), strict=True))
    scores = reward_scores(reader, [row["image_id"] for row in tuned])
    generators = generators_of(reader, [one for ids in images.values() for one in ids])

    def ancestor(name: str, likeness: float) -> Ancestor:
        ids = images.get(name, [])
        shown = tuple(JudgedImage(assets.pictures.get(one), generators.get(one, ""), means.get(one, ())) for one in ids)
        told = tuple(_said(row, ids) for row in said.get(name, ()))
        return Ancestor(texts[name], likeness, counts[name], shown, told)

    descents: list[Descent] = []
    rows: list[dict[str, Any]] = []
    for row in tuned:
        picture = assets.pictures.get(row["image_id"])
        if picture is None:
            continue
        ancestors = tuple(ancestor(*found) for found in near[row["image_id"]])
        descents.append(Descent(row["image_id"], row["prompt"], picture, scores.get(row["image_id"], ()), ancestors))
        for name, likeness in near[row["image_id"]]:
            rows += _rows(row, texts[name], likeness, said.get(name, ()))
    if not descents:
        return None
    manifests = {stage: reader.manifest(stage) for stage in ("rl", "reward", "annotate")}
    return Lineage(
        descents=tuple(descents),
        adapter=manifests["rl"].fingerprint if manifests["rl"] else "",
        epoch=reader.figures("rl").get("best_epoch"),
        reward=manifests["reward"].fingerprint if manifests["reward"] else "",
        prompts=len(learnt),
        preferences=pc.sum(learnt["pairs"]).as_py(),
        judgements=manifests["annotate"].rows.get("scored", 0) if manifests["annotate"] else 0,
        rows=rows,
    )


def _said(row: Row, ids: Sequence[str]) -> Said:
    places = {image_id: place for place, image_id in enumerate(ids, start=1)}
    levels = {(entry["image_id"], entry["aspect"]): entry["level"] for entry in row["levels"] or ()}
    return Said(
        row["judgement_id"],
        row["annotator"],
        row["status"],
        tuple(places[image_id] for image_id in row["order"] if image_id in places),
        tuple(tuple(levels.get((image_id, aspect)) for image_id in ids) for aspect in ASPECTS),
    )


def _rows(tuned: Row, prompt: str, likeness: float, said: Sequence[Row]) -> Iterator[dict[str, Any]]:
    for row in said:
        shown = {image_id: place for place, image_id in enumerate(row["order"], start=1)}
        common = {
            "tuned_image_id": tuned["image_id"],
            "tuned_prompt": tuned["prompt"],
            "training_prompt": prompt,
            "likeness": round(likeness, 4),
            "judgement_id": row["judgement_id"],
            "annotator": row["annotator"],
            "status": row["status"],
        }
        entries = row["levels"] or [dict.fromkeys(("image_id", "aspect", "level", "rationale"))]
        for entry in entries:
            yield common | {"place": shown.get(entry["image_id"]), **entry}
