"""What is drawn in an epoch, by whom, and in which update it is learnt from: the same for any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vp_ray.errors import InputError, SettingsError
from vp_ray.ids import seed_from
from vp_ray.maths.steps import Steps
from vp_ray.rl.config import RlSettings


@dataclass(frozen=True, slots=True)
class Batch:
    """Images that are drawn in one forward pass; `number` counts the epoch's batches over all ranks."""

    number: int
    update: int
    prompts: tuple[str, ...]
    samples: tuple[int, ...]
    """The place of each image among those of its prompt."""


def hold_back(prompts: Sequence[str], settings: RlSettings) -> tuple[list[str], list[str]]:
    """(prompts to train on, `held_out_prompts` others), picked by hash, each in the order given.

    Raises `InputError` when none is left to train on.
    """
    by_hash = sorted(set(prompts), key=lambda prompt: seed_from(settings.seed, "held back", prompt))
    held = set(by_hash[: settings.held_out_prompts])
    training = [prompt for prompt in prompts if prompt not in held]
    if not training:
        raise InputError(
            f"all {len(prompts)} training prompts would be held out", "Lower rl.held_out_prompts, or add prompts.", "rl"
        )
    return training, [prompt for prompt in prompts if prompt in held]


def prompts_of_epoch(prompts: Sequence[str], epoch: int, settings: RlSettings) -> list[str]:
    """`prompts_per_epoch` prompts: the whole list in a shuffled order, pass after pass.

    A list shorter than an epoch, which would repeat a prompt within it, raises `InputError`.
    """
    count = settings.prompts_per_epoch
    if len(prompts) < count:
        raise InputError(
            f"there are {len(prompts)} training prompts for {count} an epoch",
            "Lower rl.prompts_per_epoch, or add prompts.",
        )
    return [prompts[place] for place in turn(len(prompts), count, epoch, settings.seed, "prompts")]


def turn(total: int, count: int, epoch: int, seed: int, name: str) -> NDArray[np.int64]:
    """(count,) places among `total` in this epoch: all of them in a shuffled order, pass after pass.

    Raises `InputError` where there are fewer than an epoch takes.
    """
    if total < count:
        raise InputError(f"there are {total} {name} for {count} an epoch", "Lower the count of an epoch, or add some.")
    passes = total // count
    order = np.random.default_rng(seed_from(seed, name, epoch // passes)).permutation(total)
    first = (epoch % passes) * count
    return order[first : first + count]


def batches_of_epoch(prompts: Sequence[str], epoch: int, settings: RlSettings) -> list[Batch]:
    """All batches of an epoch in order, spread so that each update has images of every prompt."""
    chosen = prompts_of_epoch(prompts, epoch, settings)
    images = [(prompt, sample) for sample in range(settings.samples_per_prompt) for prompt in chosen]
    size = settings.batch_size
    count = len(images) // size
    return [
        Batch(
            number,
            number * settings.updates_per_epoch // count,
            tuple(prompt for prompt, _ in images[number * size : (number + 1) * size]),
            tuple(sample for _, sample in images[number * size : (number + 1) * size]),
        )
        for number in range(count)
    ]


def share_of_rank(batches: Sequence[Batch], rank: int, world_size: int) -> list[Batch]:
    """The batches of one rank, an equal number of every update's."""
    return [batch for batch in batches if batch.number % world_size == rank]


def trained_steps(settings: RlSettings, steps: Steps) -> list[int]:
    """The steps that may be trained: those with a density, without the last `drop_last_steps` of all."""
    kept = [step for step in steps.stochastic.tolist() if step < len(steps) - settings.drop_last_steps]
    if not kept:
        raise SettingsError("no step is left to train", "Lower rl.drop_last_steps or raise rl.steps.", "rl")
    return kept


def steps_per_image(settings: RlSettings, steps: Steps) -> int:
    """How many steps of each image are trained, at least one."""
    return max(1, round(settings.trained_steps_share * len(trained_steps(settings, steps))))


def pair_chunk(settings: RlSettings, pairs: int, world_size: int) -> int:
    """How many of an epoch's pairs share a forward pass: the most that fit `batch_size` and divide a rank's share."""
    share, rest = divmod(pairs, settings.updates_per_epoch * world_size)
    if rest or not share:
        raise SettingsError(
            f"an epoch of {pairs} pairs cannot be split over {world_size} ranks",
            "Make it a multiple of rl.updates_per_epoch x ranks.",
            "rl",
        )
    return max(size for size in range(1, share + 1) if share % size == 0 and size <= max(1, settings.batch_size // 2))


def micro_batches_per_update(settings: RlSettings, steps: Steps, world_size: int) -> int:
    """How many losses each rank adds up for one optimiser step; what the engine is built with."""
    if settings.algorithm in ("dpo", "online_dpo"):
        pairs = settings.dpo.pairs_per_epoch if settings.algorithm == "dpo" else settings.prompts_per_epoch
        chunks = pairs // (settings.updates_per_epoch * world_size) // pair_chunk(settings, pairs, world_size)
        return chunks * settings.timesteps_per_image
    images = settings.prompts_per_epoch * settings.samples_per_prompt
    per_rank, rest = divmod(images, settings.batch_size * settings.updates_per_epoch * world_size)
    if rest:
        raise SettingsError(
            f"an epoch of {images} images cannot be split over {world_size} ranks",
            "Make it a multiple of rl.batch_size x rl.updates_per_epoch x ranks.",
            "rl",
        )
    if settings.algorithm == "nft":
        return per_rank * settings.timesteps_per_image
    return per_rank if settings.algorithm == "refl" else per_rank * steps_per_image(settings, steps)


def step_columns(settings: RlSettings, steps: Steps, epoch: int, inner_epoch: int, batch: Batch) -> Tensor:
    """(K, B) step indices: in each of K rows every image of the batch trains one step; no image trains one twice."""
    rng = np.random.default_rng(seed_from(settings.seed, "steps", epoch, inner_epoch, batch.number))
    candidates = np.tile(np.asarray(trained_steps(settings, steps)), (len(batch.prompts), 1))
    shuffled: NDArray[np.int64] = rng.permuted(candidates, axis=1)
    return torch.from_numpy(shuffled[:, : steps_per_image(settings, steps)].T.copy())


def image_seeds(settings: RlSettings, epoch: int, batch: Batch) -> list[int]:
    """A seed for each image of the batch."""
    return [seed_from(settings.seed, epoch, *image) for image in zip(batch.prompts, batch.samples, strict=True)]


def start_seeds(settings: RlSettings, epoch: int, batch: Batch) -> list[int]:
    """A seed for the starting noise of each image, the same for all images of a prompt."""
    return [seed_from(settings.seed, "start", epoch, prompt) for prompt in batch.prompts]
