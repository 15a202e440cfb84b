"""Two users of opposite tastes (light and dark pictures): is each one's own model preferred on held-out prompts?

Their noisy choices between images of the weak model teach an embedding of each beside VP-Score. Two adapters are then
tuned for a weighted sum of accuracy (the noise-free judge's prompt-following) and of what that embedding says. The
users' true tastes compare images of the same prompt and seed by their own adapter, by the other's, and by the base.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parts.tuning import pictures, prompts_of, tune
from runs import print_figure
from vp_ray.models.personal import Choices, PersonalScore, accuracy, features_of, learn_tastes
from vp_ray.models.reward import VPScore
from vp_ray.models.rewards import JoinedRewards, LocalRewards
from vp_ray.protocols import Pixels
from vp_ray.rl.config import RlSettings
from vp_ray.shapeworld.judgement import OracleScorer

USERS = {"light": 1.0, "dark": -1.0}
CHOICES = 600
NOISE = 10.0
"""Spread of the noise on a picture's mean brightness (0 to 255) when a user chooses."""
EPOCHS = 40
SETTINGS: dict[str, Any] = {
    "generator": "embedded:weak",
    "reward_weights": {"prompt_following": 0.5, "user.preference": 1.0},
    "personal": {"user": "light"},
    "epochs": EPOCHS,
    "prompts_per_epoch": 8,
    "samples_per_prompt": 16,
    "batch_size": 64,
    "updates_per_epoch": 2,
    "steps": 6,
    "drop_last_steps": 2,
    "advantage_scale": "epoch",
    "optimizer": {"learning_rate": 1e-3},
    "kl_coefficient": 0.002,
    "held_out_prompts": 0,
    "keep": "last",
    "checkpoint_every": 1000,
}


def brightness(images: Pixels) -> np.ndarray:
    return images.reshape(len(images), -1).mean(axis=1)


def choices_between(images: Pixels) -> Choices:
    """Noisy choices of both users between random pairs of images."""
    rng = np.random.default_rng(0)
    user, a = rng.integers(0, len(USERS), CHOICES), rng.integers(0, len(images), CHOICES)
    b = (a + rng.integers(1, len(images), CHOICES)) % len(images)
    seen = brightness(images)
    sign = np.array(list(USERS.values()))[user]
    margin = sign * (seen[a] - seen[b]) + rng.normal(0, NOISE, CHOICES)
    return Choices(tuple(USERS), user, a, b, (margin > 0).astype(np.float32))


def main() -> None:
    torch.set_num_threads(1)
    training, held_out = prompts_of("train", 256), prompts_of("held_out", 256)
    scorer = VPScore.from_backbone("embedded:blip")
    images = pictures(RlSettings.load(SETTINGS), None, training)
    choices = choices_between(images)
    features, overall = features_of(scorer, images, training)
    kept_out = np.arange(CHOICES) % 5 == 0
    tastes = learn_tastes(features, overall, choices.where(~kept_out))
    drawn = {"base": pictures(RlSettings.load(SETTINGS), None, held_out)}
    for user in USERS:
        settings = RlSettings.load({**SETTINGS, "personal": {"user": user}})
        taste = LocalRewards(PersonalScore(scorer, tastes, user))
        rewards = JoinedRewards({"": LocalRewards(OracleScorer()), "user": taste})
        with tempfile.TemporaryDirectory(prefix="vp-personal-") as folder:
            tune(settings, rewards, None, training, Path(folder))
            drawn[user] = pictures(settings, Path(folder) / "adapter", held_out)
    seen = {name: brightness(found) for name, found in drawn.items()}
    following = {name: float(OracleScorer().score(found, held_out)[:, 0].mean()) for name, found in drawn.items()}
    for user, sign in USERS.items():
        other = next(name for name in USERS if name != user)
        over_other = float((sign * (seen[user] - seen[other]) > 0).mean())
        over_base = float((sign * (seen[user] - seen["base"]) > 0).mean())
        print_figure(
            f"personal_{user}_own_over_other", over_other, "share of prompts", f"the adapter of '{other}'",
            own_over_base=over_base, choices_foretold=accuracy(tastes, features, choices.where(kept_out), user),
            prompt_following=following[user], prompt_following_base=following["base"], prompts=len(held_out),
        )  # fmt: skip


if __name__ == "__main__":
    main()
