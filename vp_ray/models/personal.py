"""What one user prefers, beside what VP-Score knows of everybody (personalised generation as in arXiv 2404.08677).

    P(user u prefers a to b) = sigmoid(s (overall_a - overall_b) + e_u . P (f_a - f_b))

f are VP-Score's features of an image and its prompt, frozen; P is shared by all users; e_u is the user's embedding, and
s how much the shared opinion counts. The score of a user is e_u . P f, which is what they want beyond that opinion.
Letters of shapes: N pairs, W features, D numbers of an embedding, U users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from vp_ray.errors import CheckpointError, InputError, StorageError
from vp_ray.ids import seed_from
from vp_ray.maths.bradley_terry import pair_loss
from vp_ray.models.picture_scorer import SCORING_BATCH, PictureScorer
from vp_ray.models.reward import VPScore
from vp_ray.protocols import Pixels
from vp_ray.storage import Folder

PREFERENCE: Final = "preference"
_USERS: Final = "users.json"
_TASTES: Final = "tastes.safetensors"


@dataclass(frozen=True, slots=True)
class Choices:
    """(N,) choices between images a and b, which are rows of the features, by users."""

    users: tuple[str, ...]
    """The users' names, each once."""
    user: NDArray[np.int64]
    """Which user chose."""
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    preferred_a: NDArray[np.float32]
    """1, 0, or 0.5 for a tie."""

    def where(self, mask: NDArray[np.bool_]) -> Choices:
        """Those of the mask."""
        return Choices(self.users, self.user[mask], self.a[mask], self.b[mask], self.preferred_a[mask])


@dataclass(frozen=True, slots=True)
class Tastes:
    """Directions in the features that users like; what of `f` is read is (f - mean) / std."""

    users: tuple[str, ...]
    projection: Tensor
    """P, (D, W)."""
    embeddings: Tensor
    """e, (U, D)."""
    mean: Tensor
    """(W,) of the features that it was learnt from."""
    std: Tensor
    """(W,)."""

    def direction(self, user: str) -> Tensor:
        """(W,) e_u P, of length such that scores on the features of the fit have a spread of about 1."""
        return self.embeddings[self.users.index(user)] @ self.projection

    def scores(self, features: Tensor, user: str) -> Tensor:
        """(N,) what of (N, W) features the user likes."""
        return ((features - self.mean) / self.std) @ self.direction(user)


@torch.inference_mode()
def features_of(scorer: VPScore, images: Pixels, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(features (N, W), overall scores (N,)) of images and prompts, in batches."""
    scorer.eval()
    parts = []
    for first in range(0, len(images), SCORING_BATCH):
        rows = slice(first, first + SCORING_BATCH)
        tokens = scorer.reader.tokens(prompts[rows])
        ids, mask = (values[tokens.rows].to(scorer.device) for values in (tokens.ids, tokens.mask))
        pixels = scorer.preparation.pixel_values(images[rows]).to(scorer.device)
        parts.append(scorer.backbone(pixels, ids, mask).float())
    features = torch.cat(parts)
    overall = scorer.overall(scorer.scaled(scorer.head(features)).cpu().numpy())
    return features.cpu().clone(), torch.from_numpy(overall).float()


def learn_tastes(
    features: Tensor,
    overall: Tensor,
    choices: Choices,
    *,
    dimensions: int = 8,
    ridge: float = 1e-3,
    updates: int = 300,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> Tastes:
    """The tastes under which the choices are likeliest, less `ridge` times the squares of P and e; by Adam on all.

    Raises `InputError` when there is no choice.
    """
    if not len(choices.user):
        raise InputError("no user has chosen between two images", "Give a table of comparisons with a rater.")
    mean, std = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    spread = (overall - overall.mean()) / overall.std().clamp(min=1e-6)
    known = (features - mean) / std
    generator = torch.Generator().manual_seed(seed_from(seed, "tastes"))
    width = features.shape[1]
    projection = (torch.randn(dimensions, width, generator=generator) * width**-0.5).requires_grad_()
    embeddings = (torch.randn(len(choices.users), dimensions, generator=generator) * 0.1).requires_grad_()
    shared = torch.tensor(1.0, requires_grad=True)
    user, a, b = (torch.from_numpy(part) for part in (choices.user, choices.a, choices.b))
    wanted = torch.from_numpy(choices.preferred_a)
    difference, opinion = known[a] - known[b], spread[a] - spread[b]
    optimizer = torch.optim.Adam([projection, embeddings, shared], lr=learning_rate)
    for _ in range(updates):
        own = ((difference @ projection.T) * embeddings[user]).sum(dim=1)
        penalty = ridge * (projection.square().sum() + embeddings.square().sum())
        loss = pair_loss(shared * opinion + own, wanted).mean() + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learnt = Tastes(choices.users, projection.detach(), embeddings.detach(), mean, std)
    # A reward weighs this against other scores, so each user's has a spread of 1 on these images.
    scales = torch.stack([learnt.scores(features, name).std().clamp(min=1e-6) for name in choices.users])
    return Tastes(choices.users, learnt.projection, learnt.embeddings / scales[:, None], mean, std)


def accuracy(tastes: Tastes, features: Tensor, choices: Choices, user: str) -> float | None:
    """Share of the user's decided choices that their own score explains; None where there is none."""
    mine = choices.where((choices.user == choices.users.index(user)) & (choices.preferred_a != 0.5))
    if not len(mine.user):
        return None
    scores = tastes.scores(features, user).numpy()
    return float(np.mean((scores[mine.a] > scores[mine.b]) == (mine.preferred_a > 0.5)))


class PersonalScore(PictureScorer):
    """A scorer of one aspect, `preference`: what this user likes beyond VP-Score."""

    def __init__(self, scorer: VPScore, tastes: Tastes, user: str) -> None:
        """Raises `InputError` for a user of whom nothing is known."""
        super().__init__((PREFERENCE,), scorer.preparation, scorer.reader)
        if user not in tastes.users:
            raise InputError(f"nothing is known of the user '{user}'", f"Users are: {', '.join(tastes.users)}.")
        self.backbone = scorer.backbone
        self.register_buffer("direction", tastes.direction(user) / tastes.std)
        self.register_buffer("offset", (tastes.mean / tastes.std) @ tastes.direction(user))
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, 1) scores."""
        direction: Any = self.direction
        offset: Any = self.offset
        features: Tensor = self.backbone(pixels, input_ids, attention_mask)
        return (features.float() @ direction - offset)[:, None]

    @classmethod
    def from_pretrained(cls, place: Folder, user: str, scorer: VPScore) -> Self:
        """What `save_tastes` wrote, for one user; raises `CheckpointError` where it is not there or does not fit."""
        return cls(scorer, load_tastes(place), user)


def save_tastes(tastes: Tastes, place: Folder) -> None:
    """Writes `tastes.safetensors`, then `users.json`."""
    tensors = {name: getattr(tastes, name).contiguous() for name in ("projection", "embeddings", "mean", "std")}
    place.make().write_bytes(_TASTES, safetensors.torch.save(tensors))
    place.write_json(_USERS, list(tastes.users))


def load_tastes(place: Folder) -> Tastes:
    """What `save_tastes` wrote; raises `CheckpointError` for anything else."""
    try:
        users = place.read_json(_USERS)
        return Tastes(tuple(users), **safetensors.torch.load(place.read_bytes(_TASTES)))
    except (StorageError, SafetensorError, TypeError) as error:
        raise CheckpointError(f"no tastes can be read ({error})", "Start the training anew.", place.uri) from None


def has_tastes(place: Folder) -> bool:
    """Whether `save_tastes` has finished there."""
    return place.exists(_USERS)
