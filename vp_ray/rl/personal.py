"""Learns what a user likes from the comparisons of a run, once, before the training that serves them."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from vp_ray.errors import InputError
from vp_ray.ids import uniform_from
from vp_ray.models.personal import Choices, accuracy, features_of, has_tastes, learn_tastes, save_tastes
from vp_ray.models.reward import VPScore
from vp_ray.records import ImageStatus
from vp_ray.rl.reward_config import PersonalSettings
from vp_ray.storage import Folder, RunFolder

FOLDER: Final = "personal"
FIGURES: Final = "figures.json"


def learn(settings: PersonalSettings, run: RunFolder, seed: int) -> dict[str, Any]:
    """The figures of the tastes in `rl/personal`, which are learnt where they are not there yet.

    A share of the prompts is kept out of the fit, and the user's accuracy on their choices there is told. Raises
    `InputError` when the user has made no choice, or a choice names an image that is not in the run.
    """
    place = run.stage("rl") / FOLDER
    if not has_tastes(place):
        table = comparisons(settings, run)
        scorer = VPScore.from_pretrained((run.stage("reward") / "checkpoint").uri)
        choices, prompt_ids, pixels, prompts = read_choices(table, run, scorer)
        if settings.user not in choices.users:
            raise InputError(
                f"the user '{settings.user}' has made no choice",
                f"Users are: {', '.join(choices.users) or 'none'}.",
                "rl.personal.user",
            )
        features, overall = features_of(scorer, pixels, prompts)
        held = np.array([uniform_from("personal", seed, prompt) < settings.held_out_share for prompt in prompt_ids])
        tastes = learn_tastes(
            features,
            overall,
            choices.where(~held),
            dimensions=settings.dimensions,
            ridge=settings.ridge,
            updates=settings.updates,
            learning_rate=settings.learning_rate,
            seed=seed,
        )
        told = {
            "user": settings.user,
            "users": len(choices.users),
            "choices": int((choices.user == choices.users.index(settings.user)).sum()),
            "accuracy": accuracy(tastes, features, choices.where(held), settings.user),
        }
        place.make().write_json(FIGURES, told)
        save_tastes(tastes, place)
    figures: dict[str, Any] = place.read_json(FIGURES)
    return figures


def comparisons(settings: PersonalSettings, run: RunFolder) -> pa.Table:
    """The chosen table of `records.COMPARISONS`, or the run's own."""
    if settings.comparisons is not None:
        folder = Folder.at(settings.comparisons)
        filesystem, path = folder.filesystem()
        try:
            return pq.read_table(path, filesystem=filesystem)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"the comparisons cannot be read ({error})", "Give a Parquet file.", settings.comparisons
            ) from None
    return run.source("annotate").read_table("comparisons.parquet")


def read_choices(
    table: pa.Table, run: RunFolder, scorer: VPScore
) -> tuple[Choices, list[str], np.ndarray[Any, np.dtype[np.uint8]], list[str]]:
    """(choices, the prompt's id of each, the images that they name, the prompts of those images)."""
    rows = [row for row in table.to_pylist() if row["preferred_a"] is not None]
    wanted = {row[side] for row in rows for side in ("image_id_a", "image_id_b")}
    pixels: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    prompts: list[str] = []
    places: dict[str, int] = {}
    for image in run.source("generate").read_table("images", ("image_id", "prompt", "status", "image")).to_pylist():
        if image["image_id"] in wanted and image["status"] == ImageStatus.MADE:
            places[image["image_id"]] = len(pixels)
            pixels.append(scorer.preparation.fit_picture(Image.open(io.BytesIO(image["image"]["bytes"]))))
            prompts.append(image["prompt"])
    missing = sorted(wanted - places.keys())
    if missing:
        raise InputError(
            f"{len(missing)} images that users chose between are not in this run, the first is {missing[0]}",
            "Give comparisons of this run's images.",
            "rl.personal.comparisons",
        )
    users = tuple(sorted({row["rater"] for row in rows}))
    choices = Choices(
        users,
        np.array([users.index(row["rater"]) for row in rows], np.int64),
        np.array([places[row["image_id_a"]] for row in rows], np.int64),
        np.array([places[row["image_id_b"]] for row in rows], np.int64),
        np.array([row["preferred_a"] for row in rows], np.float32),
    )
    return choices, [row["prompt_id"] for row in rows], np.stack(pixels) if pixels else np.empty(0, np.uint8), prompts
