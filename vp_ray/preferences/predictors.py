"""What needs no model: how often sharpness, file size, brightness, generator, guidance and position pick the winner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vp_ray.ids import uniform_from
from vp_ray.maths.pair_accuracy import pair_accuracy
from vp_ray.maths.pictures import brightness, sharpness
from vp_ray.pictures import decode_image
from vp_ray.preferences.answers import Answers
from vp_ray.preferences.levels import judged_groups, scored
from vp_ray.preferences.win_rates import sides
from vp_ray.storage import Folder, explained

Floats = NDArray[np.float64]

MOST_PROMPTS: Final = 2000
"""Prompts that any predictor is measured on; more would not narrow an interval that anybody reads."""
FILE_BYTES: Final = "file_bytes"


def chosen_prompts(prompt_ids: list[str], most: int) -> set[str]:
    """As many prompts by the hash of their ids."""
    return set(sorted(set(prompt_ids), key=lambda name: uniform_from("predictor-prompt", name))[:most])


def pictures_of(folder: Folder, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """(image_id, encoded bytes) of wanted images; only row groups that hold one are read whole."""
    filesystem, path = folder.filesystem()
    for name in folder.names():
        if not name.endswith(".parquet"):
            continue
        with explained(f"{folder.uri}/{name}"), pq.ParquetFile(f"{path}/{name}", filesystem=filesystem) as file:
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["image_id"]).column(0).to_pylist()
                places = [place for place, image_id in enumerate(ids) if image_id in wanted]
                if not places:
                    continue
                images = file.read_row_group(group, columns=["image"]).column("image").take(pa.array(places))
                for place, image in zip(places, images.to_pylist(), strict=True):
                    if image is not None and image["bytes"] is not None:
                        yield ids[place], image["bytes"]


def measured_pictures(folder: Folder, wanted: set[str]) -> dict[str, dict[str, float]]:
    """Sharpness, brightness and file size of the wanted images that can be decoded, by name of the measure."""
    found: dict[str, dict[str, float]] = {"sharpness": {}, "brightness": {}, FILE_BYTES: {}}
    for image_id, data in pictures_of(folder, wanted):
        try:
            pixels = decode_image(data)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
            continue
        found["sharpness"][image_id] = sharpness(pixels)
        found["brightness"][image_id] = brightness(pixels)
        found[FILE_BYTES][image_id] = float(len(data))
    return found


def scored_accuracy(name: str, pairs: pa.Table, scores: Mapping[str, float]) -> dict[str, Any] | None:
    """The accuracy of "the image with the higher score wins" on the pairs whose images both have one."""
    a, b = (
        np.array([scores.get(image_id, np.nan) for image_id in pairs[side].to_pylist()])
        for side in ("image_id_a", "image_id_b")
    )
    return _accuracy(name, a, b, pairs)


def generator_accuracy(pairs: pa.Table, images: pa.Table) -> dict[str, Any] | None:
    """The accuracy of "the generator that won more elsewhere wins": rates of one half of the prompts judge the other.

    Pairs within one generator count one half, as the generator says nothing of them.
    """
    first, second = (side.to_pylist() for side in sides(pairs, images, "generator"))
    half = np.array([uniform_from("predictor-half", name) < 0.5 for name in pairs["prompt_id"].to_pylist()], np.bool_)
    probability = np.asarray(pairs["probability_a"], np.float64)
    rates = []
    for chosen in (half, ~half):
        wins: dict[str, list[float]] = {}
        for place in np.flatnonzero(chosen):
            one, other = first[place], second[place]
            if one is not None and other is not None and one != other:
                wins.setdefault(one, []).append(float(probability[place]))
                wins.setdefault(other, []).append(1 - float(probability[place]))
        rates.append({name: float(np.mean(given)) for name, given in wins.items()})
    # The half that is judged is not the half that was counted.
    a, b = (
        np.array([rates[int(own)].get(name, np.nan) for own, name in zip(half, side, strict=True)])
        for side in (first, second)
    )
    return _accuracy("generator", a, b, pairs)


def guidance_accuracy(pairs: pa.Table, images: pa.Table) -> dict[str, Any] | None:
    """The accuracy of "the image drawn with more guidance wins"."""
    first, second = sides(pairs, images, "guidance_scale")
    a, b = (np.asarray(side.to_numpy(zero_copy_only=False), np.float64) for side in (first, second))
    return _accuracy("guidance", a, b, pairs)


def _accuracy(name: str, a: Floats, b: Floats, pairs: pa.Table) -> dict[str, Any] | None:
    known = np.isfinite(a) & np.isfinite(b)
    probability = np.asarray(pairs["probability_a"], np.float64)
    prompts = np.array(pairs["prompt_id"].to_pylist(), np.str_)
    return _row(name, a[known], b[known], probability[known], prompts[known])


def _row(name: str, a: Floats, b: Floats, probability: Floats, prompts: NDArray[np.str_]) -> dict[str, Any] | None:
    if not len(a) or (a == b).all():
        return None
    result = pair_accuracy(a, b, probability, prompts)
    if result.accuracy is None:
        return None
    interval = result.accuracy
    return {
        "predictor": name,
        "accuracy": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "pairs": result.pairs,
    }


def position_of_judgements(judgements: pa.Table, weights: Floats, chosen: set[str]) -> dict[str, Any] | None:
    """The accuracy of "the image that was shown earlier wins", in each answer's own weighted levels."""
    answered = scored(judgements)
    answered = answered.filter(pc.is_in(answered["prompt_id"], pa.array(sorted(chosen), pa.string())))
    names = np.array(answered["prompt_id"].to_pylist(), np.str_)
    outcomes, prompts = [np.empty(0)], [np.empty(0, np.str_)]
    for groups in judged_groups(answered):
        overall = np.take_along_axis(groups.level_JKA @ weights, np.argsort(groups.slot_JK, axis=1), axis=1)
        left, right = np.triu_indices(overall.shape[1], 1)
        outcomes.append((1 + np.sign(np.round(overall[:, left] - overall[:, right], 9))).reshape(-1) / 2)
        prompts.append(np.repeat(names[groups.row_J], len(left)))
    outcome = np.concatenate(outcomes)
    return _row("position", np.ones(len(outcome)), np.zeros(len(outcome)), outcome, np.concatenate(prompts))


def position_of_choices(answers: Answers, chosen: set[int]) -> dict[str, Any] | None:
    """The accuracy of "the image that was shown first wins", in each person's own choices; prompts by their places."""
    prompt_N = answers.images.prompt_M[answers.first_N]
    known = (
        np.isfinite(answers.preferred_N)
        & (answers.shown_first_N != 0)
        & np.isin(prompt_N, np.array(sorted(chosen), np.int64))
    )
    preferred = answers.preferred_N[known]
    won = np.where(answers.shown_first_N[known] > 0, preferred, 1 - preferred)
    return _row("position", np.ones(len(won)), np.zeros(len(won)), won, prompt_N[known].astype(np.str_))
