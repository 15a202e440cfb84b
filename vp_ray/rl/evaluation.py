"""The held-out check: images of held-out prompts from fixed seeds, their scores, and a grid of the first of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vp_ray.ids import seed_from
from vp_ray.local_copies import to_write
from vp_ray.maths.diversity import feature_variance
from vp_ray.maths.intervals import clustered_standard_error
from vp_ray.maths.steps import Steps
from vp_ray.models.averages import AveragedWeights
from vp_ray.models.policy import DiffusionPolicy, draw_noise
from vp_ray.models.rewards import check_scores
from vp_ray.pictures import encode_png
from vp_ray.protocols import Collective, ImageEncoder, PendingScores, Pixels, RewardSource, Scores
from vp_ray.rl.config import RlSettings
from vp_ray.rl.guards import EarlyStop, aspect_weights, held_out_weights
from vp_ray.rl.rollout import together
from vp_ray.storage import Folder

GRID_IMAGES = 16
GRID_COLUMNS = 8
GRIDS = "grids"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Prompts that are never trained on, and who scores their images (the training's own scorer or another)."""

    prompts: Sequence[str]
    source: RewardSource
    encoder: ImageEncoder | None = None
    """What measures how much their images differ."""


def evaluate(
    settings: RlSettings, policy: DiffusionPolicy, held_out: HeldOut, steps: Steps, collective: Collective
) -> tuple[Scores, Pixels]:
    """(scores (N, A) of all N held-out prompts on every rank, the images that this rank drew).

    Seeds depend on the prompt and its place alone, so two evaluations differ by the policy's weights alone. The list is
    filled up cyclically until all ranks have equally many full batches; what is surplus is not returned. Raises
    `RewardError` on every rank when the scores of one stay out.
    """
    size, count = settings.batch_size, len(held_out.prompts)
    each = -(-count // (size * collective.world_size))
    first = collective.rank * each * size
    batches = [[place % count for place in range(at, at + size)] for at in range(first, first + each * size, size)]
    scores, images = together(collective, partial(_draw_and_score, settings, policy, held_out, steps, batches))
    return collective.gather(scores)[:count], images


def _draw_and_score(
    settings: RlSettings,
    policy: DiffusionPolicy,
    held_out: HeldOut,
    steps: Steps,
    batches: Sequence[Sequence[int]],
) -> tuple[Scores, Pixels]:
    images, scores = [], []
    pending: deque[PendingScores] = deque()
    for places in batches:
        prompts = [held_out.prompts[place] for place in places]
        seeds = [seed_from(settings.seed, "held out", *row) for row in zip(prompts, places, strict=True)]
        noise = draw_noise(seeds, 0, policy.latent_shape)
        prompted = policy.embed(prompts, settings.guidance_scale)
        images.append(policy.decode(policy.sample(prompted, noise, steps, keep_path=False).final))
        pending.append(held_out.source.request(images[-1], prompts))
        if len(pending) > 1:
            scores.append(pending.popleft().result(settings.reward_timeout_seconds))
    scores += [last.result(settings.reward_timeout_seconds) for last in pending]
    drawn = np.concatenate(images)
    return check_scores(np.concatenate(scores), len(drawn), held_out.source.aspects), drawn


class HeldOutCheck:
    """Evaluates the averaged weights, tells the guard, and keeps the grid and the best adapter."""

    def __init__(
        self,
        settings: RlSettings,
        policy: DiffusionPolicy,
        averages: AveragedWeights,
        guard: EarlyStop,
        *,
        held_out: HeldOut | None,
        collective: Collective,
        folder: Folder,
    ) -> None:
        self.settings, self.policy, self.averages, self.guard = settings, policy, averages, guard
        self.held_out, self.collective, self.folder = held_out, collective, folder
        if held_out is not None:
            aspects = held_out.source.aspects
            chosen = held_out_weights(settings.held_out_weights, settings.reward_weights, aspects)
            self.weights = np.asarray(aspect_weights(chosen, aspects, "rl.held_out_weights"))
            # Without noise between the steps two evaluations differ by the weights alone, and by less chance.
            self.steps = policy.steps(settings.evaluation_steps or settings.steps, eta=0.0)

    def run(self, epoch: int, reward: float | None) -> dict[str, float | None]:
        """The held-out part of a row of metrics; `reward` is the training reward of that epoch, None before the first.

        Writes `grids/epoch_NNN.png`, and `best/` when the score is the best so far.
        """
        if self.held_out is None:
            return {"held_out_score": None}
        with self.averages.applied():
            scores, images = evaluate(self.settings, self.policy, self.held_out, self.steps, self.collective)
            score = float((scores @ self.weights).mean())
            diversity = self._diversity(images)
            best = self.guard.observe(epoch, score, reward, diversity.get("diversity"))
            if self.collective.rank == 0:
                (self.folder / GRIDS).make().write_bytes(grid_name(epoch), grid_png(images))
                if best:
                    with to_write(self.folder / "best") as path:
                        self.policy.save_adapter(path)
        aspects = self.held_out.source.aspects
        means = {f"held_out_{aspect}": float(scores[:, column].mean()) for column, aspect in enumerate(aspects)}
        error = clustered_standard_error(scores @ self.weights, list(self.held_out.prompts))
        return {"held_out_score": score, "held_out_standard_error": error, **means, **diversity}

    def _diversity(self, images: Pixels) -> dict[str, float]:
        """The variance of the features of all held-out images, of which these are this rank's."""
        if self.held_out is None or self.held_out.encoder is None:
            return {}
        features = self.collective.gather(self.held_out.encoder.features(images))
        return {"diversity": feature_variance(features[: len(self.held_out.prompts)])}


def grid_name(epoch: int) -> str:
    """The file of an epoch's grid."""
    return f"epoch_{epoch:03d}.png"


def read_grid(folder: Folder, epoch: int) -> bytes:
    """The PNG of an epoch's grid."""
    return (folder / GRIDS).read_bytes(grid_name(epoch))


def grid_png(images: Pixels) -> bytes:
    """A PNG of the first 16 images, eight in a row."""
    shown = images[:GRID_IMAGES]
    columns = min(GRID_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    _, height, width, _ = shown.shape
    sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
    sheet[: len(shown)] = shown
    joined = sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
    return encode_png(joined)
