"""The run's own preferences as pairs for Diffusion-DPO: every two images once, with what all aspects say of them.

Letters of shapes: N images, P pairs, H and W pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vp_ray.errors import InputError
from vp_ray.models.policy import DiffusionPolicy
from vp_ray.protocols import Collective, Pixels
from vp_ray.records import ImageStatus
from vp_ray.rl.config import RlSettings
from vp_ray.rl.losses.interface import PairBatch
from vp_ray.rl.micro_batches import noise_levels
from vp_ray.rl.plan import pair_chunk, turn
from vp_ray.storage import RunFolder

PREFERENCE_COLUMNS = ("prompt", "aspect", "image_id_a", "image_id_b", "probability_a", "weight", "split")
IMAGE_COLUMNS = ("image_id", "status", "image")


@dataclass(frozen=True, slots=True)
class PreferencePairs:
    """P pairs of the images' files, which lie in memory as they were stored."""

    files: Mapping[str, bytes]
    prompts: tuple[str, ...]
    """(P,)."""
    image_ids: tuple[tuple[str, str], ...]
    """(P,) the first and the second image."""
    probability: NDArray[np.float32]
    """(P,) that the first is preferred; 0.5 is a tie."""
    weight: NDArray[np.float32]
    """(P,), with mean 1."""

    def __len__(self) -> int:
        return len(self.prompts)

    def without(self, prompts: Set[str]) -> PreferencePairs:
        """The pairs of all other prompts; raises `InputError` when none is left."""
        kept = [place for place, prompt in enumerate(self.prompts) if prompt not in prompts]
        if not kept:
            raise InputError("no preference is left to learn from", "Lower rl.held_out_prompts.", "rl")
        return replace(
            self,
            prompts=tuple(self.prompts[place] for place in kept),
            image_ids=tuple(self.image_ids[place] for place in kept),
            probability=self.probability[kept],
            weight=self.weight[kept],
        )


def read_pairs(run: RunFolder, aspect_weights: Mapping[str, float]) -> PreferencePairs:
    """The training pairs of a run, from its `preferences` and `generate` (or `import`) stages.

    A pair that several aspects know has the weighted mean of their probabilities, and their weights' sum: the loss is
    linear in both, so that this is the weighted sum of the aspects' losses. Pairs on which aspects of negative weight
    are asked count the other way round. Raises `InputError` when no aspect of the weights is labelled, or a named
    image was not made.
    """
    table = run.stage("preferences").read_table("preferences.parquet", columns=PREFERENCE_COLUMNS)
    rows = [row for row in table.filter(pc.equal(table["split"], "train")).to_pylist() if row["weight"] > 0]
    sums: dict[tuple[str, str, str], tuple[float, float]] = {}
    for row in rows:
        wanted = aspect_weights.get(row["aspect"], 0.0)
        weight = abs(wanted) * row["weight"]
        if weight:
            probability = row["probability_a"] if wanted > 0 else 1 - row["probability_a"]
            key = (row["prompt"], row["image_id_a"], row["image_id_b"])
            known = sums.get(key, (0.0, 0.0))
            sums[key] = (known[0] + weight * probability, known[1] + weight)
    if not sums:
        labelled = ", ".join(sorted({row["aspect"] for row in rows})) or "none"
        raise InputError(
            f"no preference has an aspect of rl.reward_weights ({', '.join(aspect_weights)})",
            f"Labelled aspects are: {labelled}.",
            "rl",
        )
    keys = sorted(sums)
    total = np.array([sums[key][1] for key in keys])
    return PreferencePairs(
        _files(run, {image_id for _, *both in keys for image_id in both}),
        tuple(key[0] for key in keys),
        tuple((key[1], key[2]) for key in keys),
        (np.array([sums[key][0] for key in keys]) / total).astype(np.float32),
        (total / total.mean()).astype(np.float32),
    )


def _files(run: RunFolder, wanted: Set[str]) -> dict[str, bytes]:
    tables = [run.source("generate").read_table("images", columns=IMAGE_COLUMNS)]
    if run.stage("preferences").exists("images"):
        tables.append(run.stage("preferences").read_table("images", columns=IMAGE_COLUMNS))
    found: dict[str, bytes] = {}
    for table in tables:
        for row in table.filter(pc.is_in(table["image_id"], pa.array(sorted(wanted)))).to_pylist():
            if row["status"] == ImageStatus.MADE:
                found.setdefault(row["image_id"], row["image"]["bytes"])
    lost = min(wanted - found.keys(), default=None)
    if lost is not None:
        raise InputError(f"a preference names the image {lost}, which was not made", "Make both stages anew.", "rl")
    return found


def pixels_of(files: Mapping[str, bytes], image_ids: Sequence[str], size: tuple[int, int]) -> Pixels:
    """(N, H, W, 3) uint8 RGB of images, scaled to `size` (height, width) and cut at the centre.

    Raises `InputError` for one that cannot be read.
    """
    pictures = []
    for image_id in image_ids:
        try:
            with Image.open(io.BytesIO(files[image_id])) as image:
                fitted = ImageOps.fit(image.convert("RGB"), (size[1], size[0]), Image.Resampling.BICUBIC)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise InputError(f"the image cannot be read ({error})", "Make its stage anew.", image_id) from None
        pictures.append(np.asarray(fitted))
    return np.stack(pictures)


def preference_batches(
    settings: RlSettings,
    policy: DiffusionPolicy,
    pairs: PreferencePairs,
    collective: Collective,
    epoch: int,
    inner_epoch: int,
    update: int,
) -> Iterator[PairBatch]:
    """This rank's share of an update, each pair at `timesteps_per_image` noise levels of its own.

    All pairs have their turn before one comes again.
    """
    size = pair_chunk(settings, settings.dpo.pairs_per_epoch, collective.world_size)
    chosen = turn(len(pairs), settings.dpo.pairs_per_epoch, epoch, settings.seed, "pairs")
    places = chosen.reshape(settings.updates_per_epoch, collective.world_size, -1, size)
    for chunk in places[update, collective.rank]:
        yield from _batches_of(settings, policy, pairs, chunk.tolist(), epoch)


def _batches_of(
    settings: RlSettings, policy: DiffusionPolicy, pairs: PreferencePairs, chunk: Sequence[int], epoch: int
) -> Iterator[PairBatch]:
    prompts = [pairs.prompts[place] for place in chunk]
    prompted = policy.embed(prompts, settings.guidance_scale)
    names = [pairs.image_ids[place] for place in chunk]
    first, second = (
        policy.encode(pixels_of(pairs.files, [name[side] for name in names], policy.image_size)) for side in (0, 1)
    )
    probability, weight = (
        torch.from_numpy(one[list(chunk)]).to(policy.device) for one in (pairs.probability, pairs.weight)
    )
    for column in range(settings.timesteps_per_image):
        noise, index = noise_levels(settings, policy, [(epoch, *name, column) for name in names])
        yield PairBatch(first, second, prompted, probability, weight, noise, index)
